//! A function called at the end of a scope, however it ends.

/// Calls a function when it is dropped: a thread that holds one reports its end even if it panics.
pub struct OnDrop<F: FnMut()>(pub F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::panic::{self, AssertUnwindSafe};

    use super::*;

    #[test]
    fn on_drop_runs_at_the_end_of_a_scope_and_of_a_panic() {
        let calls = Cell::new(0);
        let count = || calls.set(calls.get() + 1);
        drop(OnDrop(count));
        assert_eq!(calls.get(), 1);
        let panicked = panic::catch_unwind(AssertUnwindSafe(|| {
            let _guard = OnDrop(count);
            panic::resume_unwind(Box::new("without a message on stderr"));
        }));
        assert!(panicked.is_err());
        assert_eq!(calls.get(), 2);
    }
}
