//! Migrations: placeholder
