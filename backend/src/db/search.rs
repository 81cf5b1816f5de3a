//! What somebody types to search, read as `websearch_to_tsquery` of PostgreSQL reads it: words must all be there, `"words in
//! quotes"` in this order, `or` begins another choice, `-word` must not be there. The last word, unless in quotes, is also
//! found where it is only the begin of a word. Whatever is typed means something; where it means nothing, nothing is found.
//! `|` is `or`, `!word` is `-word`, and `&`, `<->` and parentheses part words: sphinx-meme's users wrote them
//! (`to_tsquery`), and find at least what they found.
//!
//! Each database gets it spelled in its own syntax, made of words in quotes alone: nothing typed is syntax there.

/// More words than that are not looked at.
const MAX_WORDS: usize = 16;

/// Of longer words only the begin is looked at, in characters.
const MAX_WORD_CHARS: usize = 64;

/// What PostgreSQL's configuration `english` passes over (its `english.stop`), in texts as in searches.
const STOP_WORDS: [&str; 127] = [
    "i",
    "me",
    "my",
    "myself",
    "we",
    "our",
    "ours",
    "ourselves",
    "you",
    "your",
    "yours",
    "yourself",
    "yourselves",
    "he",
    "him",
    "his",
    "himself",
    "she",
    "her",
    "hers",
    "herself",
    "it",
    "its",
    "itself",
    "they",
    "them",
    "their",
    "theirs",
    "themselves",
    "what",
    "which",
    "who",
    "whom",
    "this",
    "that",
    "these",
    "those",
    "am",
    "is",
    "are",
    "was",
    "were",
    "be",
    "been",
    "being",
    "have",
    "has",
    "had",
    "having",
    "do",
    "does",
    "did",
    "doing",
    "a",
    "an",
    "the",
    "and",
    "but",
    "if",
    "or",
    "because",
    "as",
    "until",
    "while",
    "of",
    "at",
    "by",
    "for",
    "with",
    "about",
    "against",
    "between",
    "into",
    "through",
    "during",
    "before",
    "after",
    "above",
    "below",
    "to",
    "from",
    "up",
    "down",
    "in",
    "out",
    "on",
    "off",
    "over",
    "under",
    "again",
    "further",
    "then",
    "once",
    "here",
    "there",
    "when",
    "where",
    "why",
    "how",
    "all",
    "any",
    "both",
    "each",
    "few",
    "more",
    "most",
    "other",
    "some",
    "such",
    "no",
    "nor",
    "not",
    "only",
    "own",
    "same",
    "so",
    "than",
    "too",
    "very",
    "s",
    "t",
    "can",
    "will",
    "just",
    "don",
    "should",
    "now",
];

/// A search.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Search {
    /// One of them must hold. Each wants some words; what only excludes is none.
    choices: Vec<Choice>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Choice {
    wanted: Vec<Phrase>,
    unwanted: Vec<Phrase>,
}

/// Words that stand beside each other.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Phrase {
    words: Vec<String>,
    /// Whether the last one may be the begin of a word.
    prefix: bool,
}

impl Search {
    /// Reads what was typed.
    pub(super) fn parse(typed: &str) -> Self {
        let mut reader = Reader { rest: typed, after_word: false, left: MAX_WORDS };
        let mut choices = vec![Choice::default()];
        while let Some(token) = reader.next() {
            match token {
                Token::Or => choices.push(Choice::default()),
                Token::Phrase { unwanted, phrase } => {
                    if let Some(choice) = choices.last_mut() {
                        if unwanted { &mut choice.unwanted } else { &mut choice.wanted }.push(phrase);
                    }
                }
            }
        }
        choices.retain(|choice| !choice.wanted.is_empty());
        Self { choices }
    }

    /// Whether nothing can be found.
    pub(super) fn is_empty(&self) -> bool {
        self.choices.is_empty()
    }

    /// For FTS5's MATCH: <https://sqlite.org/fts5.html#full_text_query_syntax>.
    pub(super) fn to_fts5(&self) -> String {
        let phrase =
            |phrase: &Phrase| format!("\"{}\"{}", phrase.words.join(" "), if phrase.prefix { "*" } else { "" });
        self.spell(phrase, " AND ", " OR ", |unwanted| format!(" NOT {unwanted}"))
    }

    /// Whether its last word may be the begin of one.
    pub(super) fn has_begin(&self) -> bool {
        self.choices.iter().flat_map(|choice| &choice.wanted).any(|phrase| phrase.prefix)
    }

    /// Whether there are words that must not be there.
    pub(super) fn excludes(&self) -> bool {
        self.choices.iter().any(|choice| !choice.unwanted.is_empty())
    }

    /// The phrase whose last word may be the begin of one, in whole words.
    pub(super) fn fts5_begun(&self) -> Option<String> {
        let phrases = self.choices.iter().flat_map(|choice| &choice.wanted);
        phrases.filter(|phrase| phrase.prefix).map(|phrase| format!("\"{}\"", phrase.words.join(" "))).next()
    }

    /// The same for whole words only.
    pub(super) fn whole_words(mut self) -> Self {
        for phrase in self.choices.iter_mut().flat_map(|choice| &mut choice.wanted) {
            phrase.prefix = false;
        }
        self
    }

    /// For PostgreSQL's `websearch_to_tsquery`: whole words.
    pub(super) fn to_websearch(&self) -> String {
        let choice = |choice: &Choice| {
            let wanted = choice.wanted.iter().map(|phrase| format!("\"{}\"", phrase.words.join(" ")));
            let unwanted = choice.unwanted.iter().map(|phrase| format!("-\"{}\"", phrase.words.join(" ")));
            wanted.chain(unwanted).collect::<Vec<_>>().join(" ")
        };
        self.choices.iter().map(choice).collect::<Vec<_>>().join(" or ")
    }

    /// For PostgreSQL's `to_tsquery`, with the begin of the last word:
    /// <https://www.postgresql.org/docs/current/datatype-textsearch.html#DATATYPE-TSQUERY>.
    pub(super) fn to_tsquery(&self) -> String {
        let phrase = |phrase: &Phrase| {
            let words: Vec<_> = phrase.words.iter().map(|word| format!("'{word}'")).collect();
            format!("({}{})", words.join(" <-> "), if phrase.prefix { ":*" } else { "" })
        };
        self.spell(phrase, " & ", " | ", |unwanted| format!(" & !{unwanted}"))
    }

    fn spell(&self, phrase: impl Fn(&Phrase) -> String, and: &str, or: &str, not: impl Fn(String) -> String) -> String {
        let choice = |choice: &Choice| {
            let mut spelled = choice.wanted.iter().map(&phrase).collect::<Vec<_>>().join(and);
            for unwanted in &choice.unwanted {
                spelled = format!("({spelled}){}", not(phrase(unwanted)));
            }
            format!("({spelled})")
        };
        self.choices.iter().map(choice).collect::<Vec<_>>().join(or)
    }
}

enum Token {
    Or,
    Phrase { unwanted: bool, phrase: Phrase },
}

struct Reader<'a> {
    rest: &'a str,
    /// Whether a token ended just there.
    after_word: bool,
    /// How many words are still taken.
    left: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<Token> {
        while self.left > 0 {
            let first = self.rest.chars().next()?;
            if first == '|' {
                self.rest = self.rest.trim_start_matches('|');
                return Some(Token::Or);
            }
            let (signs, behind) = split_at(self.rest, |c| c != '-' && c != '!');
            let unwanted = signs.contains('-') || (signs.len() % 2 == 1 && !self.after_word);
            let quoted = behind.starts_with('"');
            if !quoted && !behind.starts_with(is_of_word) {
                let skipped = distance(self.rest).unwrap_or(signs.len().max(first.len_utf8()));
                self.rest = &self.rest[skipped..];
                self.after_word = false;
                continue;
            }
            let text = if quoted {
                let (text, rest) = behind[1..].split_once('"').unwrap_or((&behind[1..], ""));
                self.rest = rest;
                text
            } else {
                let (text, rest) = split_at(behind, ends_token);
                self.rest = rest;
                text
            };
            self.after_word = true;
            if !quoted && !unwanted && text.eq_ignore_ascii_case("or") {
                return Some(Token::Or);
            }
            if let Some(phrase) = self.phrase(text, quoted, unwanted) {
                return Some(Token::Phrase { unwanted, phrase });
            }
        }
        None
    }

    /// The words of `text`. None where there are none to look for.
    fn phrase(&mut self, text: &str, quoted: bool, unwanted: bool) -> Option<Phrase> {
        let mut words: Vec<String> = text.split(|c| !is_of_word(c)).filter(|word| is_word(word)).map(shorten).collect();
        words.truncate(self.left);
        self.left -= words.len();
        let is_last = !self.rest.contains(is_of_word);
        while words.last().is_some_and(|word| is_stop_word(word)) {
            words.pop();
        }
        while words.first().is_some_and(|word| is_stop_word(word)) {
            words.remove(0);
        }
        let prefix = is_last && !quoted && !unwanted;
        (!words.is_empty()).then_some(Phrase { words, prefix })
    }
}

/// Where `pattern` first is.
fn split_at(text: &str, pattern: impl FnMut(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(pattern).unwrap_or(text.len()))
}

/// Whether no token goes on behind it, unless in quotes: blanks, and what sphinx-meme read as operators.
fn ends_token(c: char) -> bool {
    c.is_whitespace() || "\"&|!()<>".contains(c)
}

/// How long `<->` or `<2>` is, if the text begins with one: how far apart words are is not looked at outside of quotes.
fn distance(text: &str) -> Option<usize> {
    let (distance, _) = text.strip_prefix('<')?.split_once('>')?;
    let is_one = distance == "-" || (!distance.is_empty() && distance.bytes().all(|byte| byte.is_ascii_digit()));
    is_one.then_some(distance.len() + 2)
}

/// Whether a word may hold it. ASCII has only letters and digits; of the rest each database decides, but what is no
/// letter to it splits words there as well.
fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || (!c.is_ascii() && !c.is_whitespace() && !c.is_control())
}

fn is_word(text: &str) -> bool {
    text.contains(char::is_alphanumeric)
}

fn shorten(word: &str) -> String {
    word.chars().take(MAX_WORD_CHARS).collect()
}

fn is_stop_word(word: &str) -> bool {
    STOP_WORDS.iter().any(|stop| word.eq_ignore_ascii_case(stop))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn is_spelled_in_each_databases_syntax() {
        for (typed, fts5, websearch, tsquery) in [
            ("green", r#"("green"*)"#, r#""green""#, "(('green':*))"),
            (
                "the green \"big field\"",
                r#"("green" AND "big field")"#,
                r#""green" "big field""#,
                "(('green') & ('big' <-> 'field'))",
            ),
            ("a-b or c -d", r#"("b") OR (("c") NOT "d")"#, r#""b" or "c" -"d""#, "(('b')) | ((('c')) & !('d'))"),
            ("-d or the", "", "", ""),
        ] {
            let search = Search::parse(typed);
            assert_eq!(
                [search.to_fts5(), search.to_websearch(), search.to_tsquery()],
                [fts5, websearch, tsquery],
                "{typed}"
            );
        }
    }

    #[test]
    fn no_more_is_looked_at_than_is_bounded() {
        let many = "word ".repeat(1_000);
        assert_eq!(Search::parse(&many).to_fts5().matches("word").count(), MAX_WORDS);
        let long = "ä".repeat(1_000);
        assert_eq!(Search::parse(&long).to_websearch().chars().count(), MAX_WORD_CHARS + 2);
    }

    proptest! {
        #[test]
        fn what_is_typed_is_never_syntax(typed in "\\PC{0,40}|[-\"' orab|&!():*<>\\\\]{0,40}") {
            let search = Search::parse(&typed);
            for phrase in search.choices.iter().flat_map(|choice| choice.wanted.iter().chain(&choice.unwanted)) {
                prop_assert!(!phrase.words.is_empty());
                for word in &phrase.words {
                    prop_assert!(word.contains(char::is_alphanumeric));
                    prop_assert!(word.chars().all(|c| c.is_ascii_alphanumeric() || !c.is_ascii()), "{word:?}");
                }
            }
        }
    }
}
