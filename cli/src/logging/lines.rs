//! Lines of the log on their way out: those of requests together, since a write each costs as much as the rest of the line.

use std::{
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use sluice_gateway::record::REQUEST_LINES;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// For how long a line is kept back at most.
const KEPT_FOR: Duration = Duration::from_millis(100);

/// How many bytes are.
const MAX_KEPT: usize = 64 * 1024;

/// Where lines go. A line of a request is kept back for a tenth of a second at most, for others to come; any other is out at
/// once, behind all that came before it.
pub struct Lines<W>(Arc<Shared<W>>);

struct Shared<W> {
    kept: Mutex<Kept<W>>,
    came: Condvar,
}

struct Kept<W> {
    lines: Vec<u8>,
    out: W,
}

/// Takes one line.
pub struct Line<'a, W> {
    to: &'a Lines<W>,
    at_once: bool,
}

impl<W> Clone for Lines<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<W: Write + Send + 'static> Lines<W> {
    /// Lines that go to `out`, and the thread that writes those that were kept back.
    pub fn start(out: W) -> io::Result<Self> {
        let kept = Mutex::new(Kept { lines: Vec::with_capacity(MAX_KEPT), out });
        let lines = Self(Arc::new(Shared { kept, came: Condvar::new() }));
        let writing = lines.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || writing.run())?;
        Ok(lines)
    }

    /// Writes what is kept back.
    pub fn flush(&self) {
        self.kept().write();
    }

    fn run(&self) -> ! {
        loop {
            let came = self.0.came.wait_while(self.kept(), |kept| kept.lines.is_empty());
            let came = came.unwrap_or_else(PoisonError::into_inner);
            let waited = self.0.came.wait_timeout_while(came, KEPT_FOR, |kept| !kept.lines.is_empty());
            waited.unwrap_or_else(PoisonError::into_inner).0.write();
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept<W>> {
        // Half a line is the worst that a panic leaves.
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Write> Kept<W> {
    fn write(&mut self) {
        // There is nobody to tell that the log cannot be written.
        let _ = self.out.write_all(&self.lines).and_then(|()| self.out.flush());
        self.lines.clear();
    }
}

impl<W: Write + Send + 'static> Write for Line<'_, W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut kept = self.to.kept();
        let is_first = kept.lines.is_empty();
        kept.lines.extend_from_slice(line);
        if self.at_once || kept.lines.len() >= MAX_KEPT {
            kept.write();
        } else if is_first {
            self.to.0.came.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a, W: Write + Send + 'static> MakeWriter<'a> for Lines<W> {
    type Writer = Line<'a, W>;

    fn make_writer(&'a self) -> Line<'a, W> {
        Line { to: self, at_once: true }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line<'a, W> {
        Line { to: self, at_once: meta.target() != REQUEST_LINES || *meta.level() <= Level::WARN }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, Sender};

    use super::*;

    /// Says what is written at once.
    struct Sink(Sender<String>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            self.0.send(text).map_or(Err(io::ErrorKind::BrokenPipe.into()), |()| Ok(bytes.len()))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines() -> (Lines<Sink>, Receiver<String>) {
        let (sender, written) = mpsc::channel();
        (Lines::start(Sink(sender)).unwrap(), written)
    }

    /// Writes a line that can wait, or cannot.
    fn say(lines: &Lines<Sink>, line: &str, at_once: bool) {
        Line { to: lines, at_once }.write_all(line.as_bytes()).unwrap();
    }

    #[test]
    fn what_can_wait_goes_out_by_itself_and_together() {
        let (lines, written) = lines();
        for _ in 0..50 {
            say(&lines, "a\n", false);
        }
        let (mut all, mut writes) = (String::new(), 0);
        while all.len() < 100 {
            all += &written.recv().unwrap();
            writes += 1;
        }
        assert!(all == "a\n".repeat(50) && writes < 50, "{writes} writes: {all}");
        say(&lines, "three\n", false);
        assert_eq!(written.recv().unwrap(), "three\n");
    }

    #[test]
    fn what_is_no_request_is_out_before_its_speaker_goes_on_and_behind_what_came_before() {
        let (lines, written) = lines();
        say(&lines, "request\n", false);
        say(&lines, "disk full\n", true);
        // In one piece, or in two if a tenth of a second passed between them.
        assert_eq!(written.try_iter().collect::<String>(), "request\ndisk full\n");
    }

    #[test]
    fn no_more_than_so_much_is_kept_and_the_rest_at_the_end() {
        let (lines, written) = lines();
        say(&lines, &"x".repeat(MAX_KEPT), false);
        assert_eq!(written.try_iter().map(|text| text.len()).sum::<usize>(), MAX_KEPT);
        say(&lines, "last\n", false);
        lines.flush();
        assert_eq!(written.try_iter().collect::<String>(), "last\n");
    }
}
