//! `lime-verify`: model checking from the command line. Usually started by `cargo xtask verify`.
fn main() {
    let which = std::env::args().nth(1);
    std::panic::set_hook(Box::new(|_| {}));
    for s in lime_verify::scenarios::all() {
        if which.as_ref().is_some_and(|w| w != s.name) { continue; }
        let name = s.name;
        let setting = lime_verify::world::Setting::new(s, None);
        let r = lime_verify::explore::explore(&setting, &lime_verify::explore::Limits{states: 3_000_000, time: std::time::Duration::from_secs(20), threads: 1, seed: 0, progress: None});
        println!("{name:24} {:>9} states {:>10} steps {:>6} ends depth {:>4} complete {} {:.1?}", r.states, r.steps, r.ends, r.depth, r.complete, r.time);
        if r.trace.is_some() {
            let r = lime_verify::explore::shortest(&setting, 1_000_000, std::time::Duration::from_secs(30));
            println!("  shortest: {:?}", r.trace);
        }
    }
}
