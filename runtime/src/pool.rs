//! Threads that take work from one queue: for what would block or take long on the thread that decides.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

/// A queue and the threads that empty it, in the order of submission. Dropping it finishes what was
/// submitted and waits for the threads.
pub struct Pool<T> {
    queue: Arc<Queue<T>>,
    threads: Vec<JoinHandle<()>>,
}

struct Queue<T> {
    state: Mutex<State<T>>,
    ready: Condvar,
}

struct State<T> {
    items: VecDeque<T>,
    closed: bool,
}

impl<T: Send + 'static> Pool<T> {
    /// Starts `threads` threads of this name, each of which does `work` on one item after another.
    ///
    /// # Errors
    /// The operating system starts no more threads.
    pub fn start(
        name: &str,
        threads: usize,
        work: impl Fn(T) + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let state = State { items: VecDeque::new(), closed: false };
        let queue = Arc::new(Queue { state: Mutex::new(state), ready: Condvar::new() });
        let mut pool = Self { queue, threads: Vec::with_capacity(threads) };
        for _ in 0..threads {
            let (queue, work) = (pool.queue.clone(), work.clone());
            // Linux shows 15 characters of a thread's name.
            let thread = Builder::new().name(name.to_owned()).spawn(move || {
                // An item that panics would never complete, and whoever waits for it would wait for
                // ever: the process stops instead, as after any broken invariant.
                let _abort = AbortOnPanic;
                while let Some(item) = queue.take() {
                    work(item);
                }
            })?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// Queues an item.
    pub fn submit(&self, item: T) {
        self.queue.lock().items.push_back(item);
        self.queue.ready.notify_one();
    }
}

impl<T> Queue<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No thread panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<T> {
        let mut state = self.lock();
        loop {
            if let Some(item) = state.items.pop_front() {
                return Some(item);
            }
            if state.closed {
                return None;
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<T> Drop for Pool<T> {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.ready.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has taken the process with it.
            let _ = thread.join();
        }
    }
}

/// Ends the process when the thread that owns it panics: a broken invariant must stop the node, and the
/// other threads would otherwise wait for this one.
pub struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}
