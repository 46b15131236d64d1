//! Shared by the fuzz targets: [`Input`], from which a target takes its choices, and [`short_run`],
//! which runs a target on its corpus and on mutations of it in an ordinary test.

mod input;
mod mutate;
mod run;

pub use input::Input;
pub use run::short_run;
