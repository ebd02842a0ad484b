//! An array map's memory as a typed array: the one place with pointers into memory that kernel programs read (and, for a few
//! words, write) at the same time.
//!
//! Nothing hands out references to entries. Whole entries are copied out and in by volatile accesses, which is sound for an entry that
//! nobody else touches (not published yet, or only read by others); every word that the kernel may read or write concurrently goes
//! through an atomic.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use aya::Pod;

/// Alignment of ordinary memory that stands in for a map: that of the most aligned entry.
const HEAP_ALIGN: usize = 64;

/// A cache line.
pub(crate) type Line = [u64; 8];

/// An array of `T` in mapped memory.
pub(crate) struct MappedArray<T> {
    base: NonNull<u8>,
    len: u32,
    backing: Backing,
    entries: PhantomData<T>,
}

enum Backing {
    Map { bytes: usize },
    Heap { layout: Layout },
}

// SAFETY: the memory belongs to this value alone as far as this process is concerned, and may be reached from any thread.
unsafe impl<T: Send> Send for MappedArray<T> {}
// SAFETY: shared access only reads. `write` takes `&self` because the owning Datapath splits its borrows, but everything that leads to it
// takes the Datapath by `&mut`, so no two threads are in it, nor one in it and another in `read`.
unsafe impl<T: Send + Sync> Sync for MappedArray<T> {}

impl<T: Pod> MappedArray<T> {
    /// Distance of two entries: the kernel rounds values up to 8 bytes (kernel/bpf/arraymap.c, `elem_size`).
    const STRIDE: usize = size_of::<T>().next_multiple_of(8);

    /// Maps all of an mmap-able array map with `len` entries.
    pub(crate) fn map(fd: BorrowedFd<'_>, len: u32) -> io::Result<Self> {
        let bytes = Self::STRIDE * len as usize;
        // SAFETY: a fresh shared mapping at an address of the kernel's choice.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mmap gave null"))?;
        Ok(Self {
            base,
            len,
            backing: Backing::Map { bytes },
            entries: PhantomData,
        })
    }

    /// Ordinary zeroed memory in place of a map.
    pub(crate) fn heap(len: u32) -> Self {
        let bytes = (Self::STRIDE * len as usize).max(1);
        let Ok(layout) = Layout::from_size_align(bytes, HEAP_ALIGN) else {
            panic!(
                "{len} entries of {} bytes exceed the address space",
                Self::STRIDE
            );
        };
        // SAFETY: the layout's size is not zero.
        let Some(base) = NonNull::new(unsafe { alloc_zeroed(layout) }) else {
            handle_alloc_error(layout)
        };
        Self {
            base,
            len,
            backing: Backing::Heap { layout },
            entries: PhantomData,
        }
    }

    /// As [`prefetch`], of an entry's beginning.
    pub(crate) fn prefetch(&self, index: u32) {
        prefetch(self.entry(index));
    }

    /// Number of entries.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    fn entry(&self, index: u32) -> *mut T {
        assert!(index < self.len, "entry {index} of {}", self.len);
        // SAFETY: within the mapping, by the assertion above.
        unsafe { self.base.as_ptr().add(index as usize * Self::STRIDE).cast() }
    }

    /// Copies an entry out. Words that the kernel writes may be torn against each other, each 8-byte word is whole.
    pub(crate) fn read(&self, index: u32) -> T {
        // SAFETY: valid and aligned by construction (pages or HEAP_ALIGN, stride a multiple of T's alignment); any bytes are a T (Pod).
        unsafe { self.entry(index).read_volatile() }
    }

    /// Overwrites an entry that no program can see, or of which programs read only words that do not change by this.
    pub(crate) fn write(&self, index: u32, value: &T) {
        // SAFETY: as in `read`; this process has one writer (methods that write take the owning Datapath by &mut).
        unsafe { self.entry(index).write_volatile(*value) }
    }

    /// As [`MappedArray::write`], of some cache lines of the entry only, from the one number `first` on. To be followed by [`complete_lines`]
    /// before the entry is published.
    pub(crate) fn write_lines(&self, index: u32, first: usize, lines: &[Line]) {
        assert!((first + lines.len()) * size_of::<Line>() <= size_of::<T>());
        const { assert!(align_of::<T>() >= size_of::<Line>()) };
        let to = self.entry(index).cast::<Line>();
        for (i, line) in lines.iter().enumerate() {
            // SAFETY: within the entry by the assertion above.
            stream(unsafe { to.add(first + i) }, line);
        }
    }

    fn word<W>(&self, index: u32, offset: usize) -> *mut W {
        assert!(offset + size_of::<W>() <= Self::STRIDE && offset.is_multiple_of(size_of::<W>()));
        // SAFETY: within the entry, by the assertion above.
        unsafe { self.entry(index).cast::<u8>().add(offset).cast() }
    }

    /// The aligned 32-bit word at `offset` in an entry.
    pub(crate) fn u32_at(&self, index: u32, offset: usize) -> &AtomicU32 {
        // SAFETY: aligned and valid as long as `self`; others (the kernel too) access it by whole words.
        unsafe { AtomicU32::from_ptr(self.word(index, offset)) }
    }

    /// The aligned 64-bit word at `offset` in an entry.
    pub(crate) fn u64_at(&self, index: u32, offset: usize) -> &AtomicU64 {
        // SAFETY: as in `u32_at`.
        unsafe { AtomicU64::from_ptr(self.word(index, offset)) }
    }

    /// Publishes a 32-bit word: everything written before is seen by who sees it.
    pub(crate) fn publish(&self, index: u32, offset: usize, value: u32) {
        self.u32_at(index, offset).store(value, Ordering::Release);
    }

    /// Reads a 32-bit word.
    pub(crate) fn get(&self, index: u32, offset: usize) -> u32 {
        self.u32_at(index, offset).load(Ordering::Acquire)
    }
}

/// Has the processor fetch the cache line of `place`, without waiting for it. Does nothing where Rust has no stable way to say so.
pub(crate) fn prefetch<T>(place: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint: it reads nothing and cannot fail, whatever the address. All x86-64 processors have it.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(place.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// Stores a cache line past the caches, where that is possible: it need not be fetched first, and takes the place of nothing that is needed soon.
fn stream(to: *mut Line, line: &Line) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_stream_si128};
        let from = line.as_ptr().cast::<__m128i>();
        for i in 0..size_of::<Line>() / size_of::<__m128i>() {
            // SAFETY: the caller's line, and its place, aligned as entries are. All x86-64 processors have these instructions.
            unsafe { _mm_stream_si128(to.cast::<__m128i>().add(i), _mm_loadu_si128(from.add(i))) }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: as above.
    unsafe {
        to.write(*line)
    }
}

/// What [`MappedArray::write_lines`] has written is seen by whoever sees what is published from here on.
pub(crate) fn complete_lines() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: all x86-64 processors have it.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

impl<T> Drop for MappedArray<T> {
    fn drop(&mut self) {
        match self.backing {
            // SAFETY: what `map` mapped, with the same length; no reference outlives `self`.
            Backing::Map { bytes } => unsafe {
                libc::munmap(self.base.as_ptr().cast(), bytes);
            },
            // SAFETY: what `heap` allocated, with the same layout.
            Backing::Heap { layout } => unsafe { dealloc(self.base.as_ptr(), layout) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_four_bytes_have_a_stride_of_eight() {
        let words = MappedArray::<u32>::heap(3);
        words.publish(0, 0, 1);
        words.publish(2, 0, 3);
        assert_eq!((words.read(0), words.read(1), words.read(2)), (1, 0, 3));
        assert_eq!(MappedArray::<u32>::STRIDE, 8);
    }

    #[test]
    #[should_panic(expected = "entry 3 of 3")]
    fn entries_outside_are_refused() {
        MappedArray::<u64>::heap(3).read(3);
    }
}
