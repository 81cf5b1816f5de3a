//! What a search finds, in which order.

use super::fixture::{Server, at, finished, muid, owner};
use crate::db::{Cursor, Database, Media, MediaChange, NewMedia, Page};

/// A file to be found; more of it as `change` says.
async fn put(server: &Server<'_>, n: u8, name: &str, description: &str, tags: &[&str]) {
    put_with(server, n, |media| {
        media.name = name.to_owned();
        media.description = description.to_owned();
        media.tags = tags.iter().map(|&tag| tag.to_owned()).collect();
    })
    .await;
}

/// A public file of owner 1 with no words but those that `change` gives it, stored `n` seconds after the start.
async fn put_with(server: &Server<'_>, n: u8, change: impl FnOnce(&mut NewMedia)) {
    let secs = n.into();
    let (content, _) = server.begin(None, secs).await.unwrap();
    let mut end = finished(content, muid(n), owner(1));
    let plain = NewMedia { name: "-".into(), description: "-".into(), tags: vec![], price_sat: 0, ..end.media };
    end.media = NewMedia { public: true, ..plain };
    change(&mut end.media);
    server.commit(&end, secs).await.unwrap();
}

fn numbers(media: &[Media]) -> Vec<u8> {
    media.iter().map(|media| media.muid.as_bytes()[0]).collect()
}

/// The numbers of what `term` finds.
async fn find(db: &dyn Database, term: &str) -> Vec<u8> {
    numbers(&db.search(term, &Page { limit: Some(12), after: None }, at(500)).await.unwrap().media)
}

/// The same, in the order of their numbers.
async fn find_sorted(db: &dyn Database, term: &str) -> Vec<u8> {
    let mut found = find(db, term).await;
    found.sort_unstable();
    found
}

pub(crate) async fn finds_by_words(db: &dyn Database) {
    let server = Server::new(db);
    put(&server, 1, "Über Café", "a photo of a green field", &[]).await;
    put(&server, 2, "tall", "description", &["field"]).await;
    put(&server, 3, "name", "green gif", &["one", "two words"]).await;
    put(&server, 4, "Running horses", "They ran in the fields of gold", &[]).await;
    put(&server, 5, "exact.bin", "well-known 3.14 snake_case it's", &["a/b"]).await;
    put(&server, 6, "日本語 текст", "привет 🎈 мир", &["straße"]).await;
    for (term, found) in [
        ("green", &[1, 3][..]),
        ("GREEN", &[1, 3]),
        ("field", &[1, 2, 4]),
        ("fields", &[1, 2, 4]),
        ("tall", &[2]),
        ("two", &[3]),
        ("nothing", &[]),
        // All words.
        ("green field", &[1]),
        ("field green", &[1]),
        ("  green\t\n field ", &[1]),
        ("green tall", &[]),
        ("horse run", &[4]),
        ("a photo of the field", &[1]),
        // In this order.
        ("\"green field\"", &[1]),
        ("\"field green\"", &[]),
        ("\"two words\"", &[3]),
        ("\"green field", &[1]),
        ("photo \"green field\"", &[1]),
        ("\"photo of a green field\"", &[1]),
        // A choice.
        ("tall or gif", &[2, 3]),
        ("tall OR gif", &[2, 3]),
        ("gif or tall photo", &[3]),
        ("or tall", &[2]),
        ("tall or", &[2]),
        ("tall or or gif", &[2, 3]),
        ("tall \"or\" gif", &[]),
        // Not.
        ("green -gif", &[1]),
        ("-gif green", &[1]),
        ("field -green -tall", &[4]),
        ("field -\"green field\"", &[2, 4]),
        ("green -photo or tall", &[2, 3]),
        ("green - gif", &[3]),
        // As `to_tsquery` wants it.
        ("green&field", &[1]),
        ("field & green", &[1]),
        ("tall|gif", &[2, 3]),
        ("tall | gif", &[2, 3]),
        ("tall||gif", &[2, 3]),
        ("!gif & green", &[1]),
        ("green & !gif", &[1]),
        ("green&!gif", &[1]),
        ("field & !\"green field\"", &[2, 4]),
        ("green & !!gif", &[3]),
        ("green<->field", &[1]),
        ("green <-> field", &[1]),
        ("green <1> field", &[1]),
        ("green<3>gif", &[3]),
        ("field & (green | tall)", &[1, 2]),
        ("(green) & (field)", &[1]),
        ("green!field", &[1]),
        ("green! field", &[1]),
        ("field(green)", &[1]),
        // The begin of the last word.
        ("gre", &[1, 3]),
        ("g", &[1, 3, 4]),
        ("green fie", &[1]),
        ("fie green", &[]),
        ("\"gre\"", &[]),
        ("green -gi", &[1, 3]),
        ("caf", &[1]),
        ("über", &[1]),
        ("ÜBER caf", &[1]),
        // Punctuation parts words, on both sides.
        ("exact", &[5]),
        ("bin", &[5]),
        ("exact.bin", &[5]),
        ("exact.bi", &[5]),
        ("bin.exact", &[]),
        ("well-known", &[5]),
        ("known", &[5]),
        ("14", &[5]),
        ("3.14", &[5]),
        ("snake_case", &[5]),
        ("case", &[5]),
        ("a/b", &[5]),
        // Other writings.
        ("текст", &[6]),
        ("ТЕКСТ", &[6]),
        ("мир привет", &[6]),
        ("日本語", &[6]),
        ("日本", &[6]),
        ("straße", &[6]),
    ] {
        assert_eq!(find_sorted(db, term).await, found, "{term}");
    }
}

pub(crate) async fn any_term_is_a_search(db: &dyn Database) {
    let server = Server::new(db);
    put(&server, 1, "some name", "it's \"quoted\" & more | less <b>", &["OR"]).await;
    let long = "word ".repeat(10_000);
    let long_word = "x".repeat(100_000);
    let quotes = "\"".repeat(1_001);
    let minuses = "-".repeat(1_000);
    for term in [
        "",
        " ",
        "\0",
        "na\0me",
        "'",
        "''",
        "\"",
        "\"\"",
        "-",
        "--",
        "- -",
        "-name",
        "-\"name\"",
        "or",
        "or or",
        "the",
        "a",
        "i",
        "to be or not to be",
        "\"the\"",
        "\"or\"",
        "AND",
        "NOT",
        "NEAR",
        "NEAR(a b)",
        "and not",
        "name AND",
        "name*x",
        "*",
        "name:*",
        ":*",
        "name:",
        "{name}:x",
        "^name x",
        "+",
        "!",
        "!!name x",
        "&",
        "|",
        "()",
        ")(",
        "(x",
        "<->",
        "<2>",
        "x <-> name",
        "\\",
        "\\'",
        "'\\''",
        "%",
        "_",
        "%%",
        "x'; DROP TABLE media; --",
        "\" OR 1=1 --",
        "$1",
        "?1",
        "{}",
        "{",
        "}",
        "\u{feff}",
        "\u{202e}",
        "🎈",
        "🎈🎈 x",
        "e\u{301}",
        "\u{301}",
        "\u{200d}",
        "ﬁ",
        "İ",
        "\u{10ffff}",
        "１",
        "½",
        "..",
        "../../etc/passwd",
        "http://x/y?z=1#a",
        "x@y.example",
        "-1",
        "1e999",
        "0x",
        "1.",
        ".1",
        "<b>",
        "<script>x",
        &long,
        &long_word,
        &quotes,
        &minuses,
    ] {
        let listing = db.search(term, &Page { limit: Some(12), after: None }, at(500)).await;
        let shown: String = term.chars().take(100).collect();
        // What the words of the one file find, they find.
        let finds = ["na\0me", "name:", "name:*", "name AND", "<b>"].contains(&term);
        assert_eq!(numbers(&listing.unwrap().media), vec![1; usize::from(finds)], "{shown:?}");
    }
    for term in [
        "name",
        "name'",
        "'name",
        "name\"",
        "\"some name\"",
        "some (name)",
        "name;",
        "QUOTED & more",
        "less <b>",
        "\\name",
    ] {
        assert_eq!(find(db, term).await, [1], "{term}");
    }
}

pub(crate) async fn a_name_counts_more_than_a_description_than_a_tag(db: &dyn Database) {
    let server = Server::new(db);
    put(&server, 1, "cats", "of somebody", &["pictures"]).await;
    put(&server, 2, "something else", "shows cats", &["pictures"]).await;
    put(&server, 3, "something else", "of somebody", &["cats"]).await;
    put(&server, 4, "something else", "of somebody", &["none"]).await;
    assert_eq!(find(db, "cat").await, [1, 2, 3]);
    assert_eq!(find(db, "ca").await, [1, 2, 3]);
    // What is equal comes newest first.
    put(&server, 5, "cats", "of somebody", &["pictures"]).await;
    put(&server, 6, "cats", "of somebody", &["pictures"]).await;
    assert_eq!(find(db, "cats").await, [6, 5, 1, 2, 3]);
    // The whole word counts more than a begin of one.
    put(&server, 7, "catering", "of somebody", &["pictures"]).await;
    let found = find(db, "cat").await;
    assert_eq!((&found[..3], found.len()), (&[6, 5, 1][..], 6), "{found:?}");
}

pub(crate) async fn finds_what_anybody_may_find_and_nothing_else(db: &dyn Database) {
    let server = Server::new(db);
    for (n, public, price_sat, expiry) in [
        (1, true, 0, None),
        (2, false, 5, None),
        (3, false, 0, None),
        (4, true, 0, Some(at(501))),
        (5, true, 0, Some(at(500))),
        (6, true, 5, None),
    ] {
        put_with(&server, n, |media| {
            *media = NewMedia { name: "word".to_owned(), public, price_sat, expiry, ..media.clone() };
        })
        .await;
    }
    assert_eq!(find(db, "word").await, [6, 4, 2, 1]);
    // An upload that goes on, or failed, is none.
    server.begin(None, 0).await.unwrap();
    assert_eq!(find(db, "word").await, [6, 4, 2, 1]);
}

pub(crate) async fn a_search_follows_what_owners_say(db: &dyn Database) {
    let server = Server::new(db);
    put(&server, 1, "first", "text", &["tag"]).await;
    let change = async |change| db.change_media(muid(1), &owner(1), &change, at(5)).await.unwrap().unwrap();
    change(MediaChange { name: Some("second".to_owned()), ..MediaChange::default() }).await;
    assert_eq!((find(db, "first").await, find(db, "second").await), (vec![], vec![1]));
    change(MediaChange {
        tags: Some(vec!["extra \"tag\"".to_owned(), "new\nline".to_owned()]),
        ..MediaChange::default()
    })
    .await;
    assert_eq!(find(db, "extra").await, [1]);
    assert_eq!((find(db, "line").await, find(db, "text").await), (vec![1], vec![1]));
    change(MediaChange { public: Some(false), ..MediaChange::default() }).await;
    assert!(find(db, "second").await.is_empty());
    change(MediaChange { price_sat: Some(1), ..MediaChange::default() }).await;
    assert_eq!(find(db, "second").await, [1]);
    db.purchase(muid(1), &owner(1), at(6)).await.unwrap().unwrap();
    assert_eq!(find(db, "second").await, [1]);
    change(MediaChange { price_sat: Some(0), public: Some(true), ..MediaChange::default() }).await;
    assert_eq!(find(db, "second").await, [1]);
    // Uploaded once more, with other words.
    put(&server, 1, "third", "text", &[]).await;
    assert_eq!((find(db, "second").await, find(db, "third").await, find(db, "line").await), (vec![], vec![1], vec![]));
    assert!(db.delete_media(muid(1), &owner(1)).await.unwrap());
    assert!(find(db, "third").await.is_empty());
}

pub(crate) async fn names_a_content_once_by_its_best_row(db: &dyn Database) {
    let server = Server::new(db);
    for (who, name, tag) in [(1, "other", "cat"), (2, "cat", "other"), (3, "cats", "other"), (4, "thing", "cat")] {
        put_with(&server, 1, |media| {
            *media = NewMedia { owner: owner(who), name: name.into(), tags: vec![tag.into()], ..media.clone() };
        })
        .await;
    }
    put(&server, 2, "thing", "-", &["cat"]).await;
    let found = db.search("cat", &Page::default(), at(500)).await.unwrap();
    assert_eq!(numbers(&found.media), [1, 2]);
    assert_eq!(found.media[0].owner, owner(3));
    assert_eq!(found.next, None);
    // Also where one choice is met by its name and another one by its tags.
    put(&server, 3, "apple", "berry", &["cherry"]).await;
    assert_eq!(find(db, "apple -berry or cherry").await, [3]);
}

pub(crate) async fn a_search_has_pages(db: &dyn Database) {
    let server = Server::new(db);
    for n in 1..=9 {
        let tags: &[&str] = if n % 3 == 0 { &["cat"] } else { &[] };
        put(&server, n, if n % 3 == 1 { "cat" } else { "thing" }, if n % 3 == 2 { "cat" } else { "text" }, tags).await;
    }
    let whole = db.search("cat", &Page::default(), at(500)).await.unwrap();
    assert_eq!((numbers(&whole.media), whole.next), (vec![7, 4, 1, 8, 5, 2, 9, 6, 3], None));
    for limit in 1..=10 {
        let (mut found, mut after) = (vec![], None::<Cursor>);
        loop {
            let page = Page { limit: Some(limit), after };
            let listing = db.search("cat", &page, at(500)).await.unwrap();
            found.extend(numbers(&listing.media));
            after = listing.next.map(|next| next.to_string().parse().unwrap());
            if after.is_none() {
                break;
            }
            assert_eq!(listing.media.len() as u32, limit);
        }
        assert_eq!(found, [7, 4, 1, 8, 5, 2, 9, 6, 3], "{limit}");
    }
    let none = db.search("cat", &Page { limit: Some(0), after: None }, at(500)).await.unwrap();
    assert!(none.media.is_empty());
}

pub(crate) async fn of_very_many_the_best_come_first_however_old(db: &dyn Database) {
    let server = Server::new(db);
    for n in 1..=250 {
        let (name, description, tags): (_, _, &[&str]) = match n {
            1..=20 => ("zebra", "-", &[]),
            21..=30 => ("-", "a zebra", &[]),
            _ => ("-", "-", &["zebra"]),
        };
        put(&server, n, name, description, tags).await;
    }
    let in_order: Vec<u8> = (1..=20).rev().chain((21..=30).rev()).chain((31..=250).rev()).collect();
    for term in ["zebra", "zeb", "\"zebra\"", "z"] {
        assert_eq!(numbers(&db.search(term, &Page::default(), at(500)).await.unwrap().media), in_order, "{term}");
        let (mut found, mut after) = (vec![], None);
        loop {
            let listing = db.search(term, &Page { limit: Some(12), after }, at(500)).await.unwrap();
            found.extend(numbers(&listing.media));
            after = listing.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, in_order, "{term}");
    }
}

pub(crate) async fn what_comes_between_two_pages_hides_and_repeats_nothing(db: &dyn Database) {
    let server = Server::new(db);
    for n in 1..=30 {
        let (name, description) = if n % 2 == 0 { ("zebra", "-") } else { ("-", "a zebra, and so on") };
        put(&server, n, name, description, &[]).await;
    }
    let (mut found, mut after, mut new) = (vec![], None, 100);
    loop {
        let listing = db.search("zeb", &Page { limit: Some(4), after }, at(500)).await.unwrap();
        found.extend(numbers(&listing.media).into_iter().filter(|&n| n <= 30));
        after = listing.next.map(|next| next.to_string().parse::<Cursor>().unwrap());
        if after.is_none() {
            break;
        }
        // The page's last row goes, and there are others with other words, and with the same ones.
        let last = listing.media.last().unwrap();
        assert!(db.delete_media(last.muid, &last.owner).await.unwrap());
        put(&server, new, "a name of many other words that nobody looks for", "-", &[]).await;
        put(&server, new + 1, "-", "-", &["zebra"]).await;
        put(&server, new + 2, "zebra", "-", &[]).await;
        new += 3;
    }
    let even = (1..=30).rev().filter(|n| n % 2 == 0);
    let in_order: Vec<u8> = even.chain((1..=30).rev().filter(|n| n % 2 == 1)).collect();
    assert_eq!(found, in_order);
}

pub(crate) async fn all_words_in_the_name_count_more_than_some(db: &dyn Database) {
    let server = Server::new(db);
    put(&server, 1, "striped zebra", "-", &[]).await;
    put(&server, 2, "zebra", "striped", &[]).await;
    put(&server, 3, "-", "a striped zebra", &[]).await;
    put(&server, 4, "zebra", "-", &["striped"]).await;
    put(&server, 5, "striped", "a zebra", &["zebra", "striped"]).await;
    for term in ["zebra striped", "striped zebra", "striped zeb", "zebra striped -horse"] {
        assert_eq!(find(db, term).await, [1, 5, 3, 2, 4], "{term}");
    }
    // What must not be there must be nowhere.
    assert_eq!(find(db, "zebra -striped").await, [0; 0]);
    put(&server, 6, "zebra", "-", &["horse"]).await;
    put(&server, 7, "-", "zebra", &[]).await;
    assert_eq!(find(db, "zebra -horse -striped").await, [7]);
}
