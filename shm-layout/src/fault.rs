//! Fault points: a name beside each store to shared memory, at which a test ends the process.
//!
//! A point stands immediately before its store, so a process that is killed there has done
//! everything up to that store and nothing after it. Points exist only with the cargo feature
//! `fault-points`; without it [`fault_point!`](crate::fault_point) expands to nothing. The package
//! `tests/faults` kills a daemon and a client at each of them, and refuses a store that has none.

/// Names the place before a store, for tests that kill the process there.
#[cfg(feature = "fault-points")]
#[macro_export]
macro_rules! fault_point {
    ($name:literal) => {
        $crate::fault::reach($name)
    };
}

/// Names the place before a store, for tests that kill the process there.
#[cfg(not(feature = "fault-points"))]
#[macro_export]
macro_rules! fault_point {
    ($name:literal) => {};
}

#[cfg(feature = "fault-points")]
mod hook {
    use std::sync::OnceLock;

    static HOOK: OnceLock<fn(&'static str)> = OnceLock::new();

    /// Has `hook` called with the name of each point that this process reaches from now on. Only
    /// the first hook counts.
    pub fn set_hook(hook: fn(&'static str)) {
        let _ = HOOK.set(hook);
    }

    /// Called at each point, by [`fault_point!`](crate::fault_point).
    #[inline]
    pub fn reach(name: &'static str) {
        if let Some(hook) = HOOK.get() {
            hook(name);
        }
    }
}

#[cfg(feature = "fault-points")]
pub use hook::{reach, set_hook};
