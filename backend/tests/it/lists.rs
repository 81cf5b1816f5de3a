//! Lists in parts, and search.

use serde_json::{Value, json};

use crate::support::{Answer, Server, assert_problem, get};

fn names(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json().as_array().unwrap().iter().map(|media| media["name"].as_str().unwrap().to_owned()).collect()
}

/// Where the next part is.
fn next(answer: &Answer) -> Option<String> {
    let link = answer.headers.get("link")?.to_str().unwrap();
    Some(link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned())
}

#[tokio::test]
async fn lists_come_whole_or_in_parts() {
    for server in Server::on_each_database().await {
        for at in 0..7 {
            server.store("/public", 1, &[("name", &format!("cat {at}"))], format!("{at}").as_bytes()).await;
        }
        let jwt = server.login(1);
        for list in ["/mymedia", "/search/cat"] {
            let whole = server.send(get(list).bearer(&jwt).empty()).await;
            assert_eq!((names(&whole).len(), next(&whole)), (7, None), "{list}");
            let (mut found, mut parts, mut path) = (vec![], 0, Some(format!("{list}?limit=3")));
            while let Some(at) = path {
                let part = server.send(get(&at).bearer(&jwt).empty()).await;
                found.extend(names(&part));
                parts += 1;
                path = next(&part);
            }
            assert_eq!((parts, &found), (3, &names(&whole)), "{list}");
        }
        let newest = server.send(get("/mymedia?limit=1").bearer(&jwt).empty()).await;
        assert_eq!(names(&newest), ["cat 6"]);
        // What comes meanwhile moves nothing.
        server.store("/public", 1, &[("name", "new")], b"new").await;
        assert_eq!(names(&server.send(get(&next(&newest).unwrap()).bearer(&jwt).empty()).await), ["cat 5"]);
        // A login in the query is not repeated.
        let with_login = server.get(&format!("/mymedia?jwt={jwt}&limit=1")).await;
        assert!(!next(&with_login).unwrap().contains(&jwt));
    }
}

#[tokio::test]
async fn a_list_of_any_length_comes_whole() {
    for server in Server::on_each_database().await {
        let jwt = server.login(1);
        for at in 0..205 {
            server.store("/file", 1, &[("name", &format!("cat {at}"))], format!("{at}").as_bytes()).await;
        }
        let whole = server.send(get("/mymedia").bearer(&jwt).empty()).await;
        assert_eq!((whole.header("content-type"), next(&whole)), ("application/json", None));
        let newest_first: Vec<_> = (0..205).rev().map(|at| format!("cat {at}")).collect();
        assert_eq!(names(&whole), newest_first);
        // It is not all of it in memory, so nobody knows how long it is.
        assert!(!whole.headers.contains_key("content-length"));
        let from = next(&server.send(get("/mymedia?limit=2").bearer(&jwt).empty()).await).unwrap();
        let rest = server.send(get(&from.replace("limit=2&", "")).bearer(&jwt).empty()).await;
        assert_eq!(names(&rest), newest_first[2..]);
    }
}

#[tokio::test]
async fn a_part_that_is_none_is_refused() {
    for server in Server::on_each_database().await {
        for list in ["/mymedia", "/templates", "/search/cat"] {
            for query in [
                "limit=",
                "after=",
                "limit=0",
                "limit=-1",
                "limit=1001",
                "limit=many",
                "limit=1.5",
                "after=junk",
                "after=%FF",
                "after=AAAA",
            ] {
                let answer = server.send(get(&format!("{list}?{query}")).bearer(&server.login(1)).empty()).await;
                assert_problem(&answer, 400, "invalid_query");
            }
            let answer =
                server.send(get(&format!("{list}?other=1&limit=5&limit=x")).bearer(&server.login(1)).empty()).await;
            assert_eq!(answer.json(), json!([]), "{list}");
        }
    }
}

#[tokio::test]
async fn search_finds_what_is_public_or_for_sale() {
    for server in Server::on_each_database().await {
        server.store("/file", 1, &[("name", "green secret")], b"private").await;
        server.store("/file", 1, &[("name", "green frog"), ("price", "5")], b"for sale").await;
        server.store("/public", 2, &[("description", "a green field"), ("tags", "one,two")], b"public").await;
        let found = server.get("/search/green").await;
        assert_eq!(names(&found), ["green frog", "name"]);
        let found = found.json();
        let (sale, public) = (&found[0], &found[1]);
        assert!(sale.get("total_sats").is_none() && sale.get("total_buys").is_none());
        assert_eq!((&sale["price"], &public["tags"]), (&5.into(), &json!(["one", "two"])));
        assert_eq!(names(&server.get("/search/FIEL").await), ["name"]);
        for nothing in [
            "secret",
            "%27%3B%20DROP%20TABLE%20media",
            "%26%7C%21%3A%2A%28%29",
            "%22",
            "%20",
            "-",
            "%00",
            "%F0%9F%90%B8",
        ] {
            assert_eq!(server.get(&format!("/search/{nothing}")).await.json(), Value::Array(vec![]), "{nothing}");
        }
        assert_problem(&server.get("/search/%FF").await, 400, "invalid_path");
    }
}

#[tokio::test]
async fn search_gives_twelve_at_most_unless_more_are_asked_for() {
    for server in Server::on_each_database().await {
        for at in 0..15 {
            server.store("/public", 1, &[("name", "cat")], format!("{at}").as_bytes()).await;
        }
        assert_eq!(names(&server.get("/search/cat").await).len(), 12);
        assert_eq!(names(&server.get("/search/cat?limit=100").await).len(), 15);
    }
}
