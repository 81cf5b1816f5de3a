//! Where commands write: what was asked for on standard output, everything else on standard error.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// Writes what was asked for, one line or several, to standard output.
pub(super) fn result(text: impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Tells the user something on standard error.
pub fn note(text: impl Display) {
    // Nobody may be reading, which is no reason to stop.
    let _ = writeln!(io::stderr().lock(), "{}", escaped(&text.to_string()));
}

/// Lines of text, with escapes in place of what a terminal would act on: names of files may hold anything.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// Asks on standard error and reads a line of standard input, without blanks around it; none at its end.
pub(super) async fn ask(question: &'static str) -> io::Result<Option<String>> {
    let read = tokio::task::spawn_blocking(move || {
        let mut err = io::stderr().lock();
        let _ = write!(err, "{question}").and_then(|()| err.flush());
        drop(err);
        let mut line = String::new();
        let len = io::stdin().read_line(&mut line)?;
        Ok((len > 0).then(|| line.trim().to_owned()))
    });
    read.await.map_err(io::Error::other)?
}

/// Text of a server, without what a terminal would act on.
pub(super) fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_server_cannot_steer_the_terminal() {
        assert_eq!(super::harmless("a\u{1b}[2Jb\nc"), "a [2Jb c");
        assert_eq!(super::escaped("a\u{1b}[2Jb\n\rc\u{9b}é█"), "a\\u{1b}[2Jb\n\\rc\\u{9b}é█");
    }
}
