//! `/openapi.json` says what the router does, and docs/API.md has all of it.

use axum::body::Body;
use http::{Method, Request, StatusCode};
use serde_json::Value;

use crate::support::{Answer, Server, assert_problem};

const API_MD: &str = include_str!("../../../docs/API.md");
const ROUTER: &str = include_str!("../../src/router.rs");

const METHODS: [Method; 7] =
    [Method::GET, Method::PUT, Method::POST, Method::DELETE, Method::PATCH, Method::OPTIONS, Method::TRACE];

async fn send(server: &Server, method: &Method, path: &str) -> Answer {
    let path = path.replace("{muid}", "AAAA").replace("{name}", "AAAA").replace("{term}", "cat");
    server.send(Request::builder().method(method).uri(path).body(Body::empty()).unwrap()).await
}

/// Every path with its methods.
fn routes(document: &Value) -> Vec<(String, Vec<Method>)> {
    let methods = |item: &Value| {
        METHODS.into_iter().filter(|method| item.get(method.as_str().to_lowercase()).is_some()).collect()
    };
    document["paths"].as_object().unwrap().iter().map(|(path, item)| (path.clone(), methods(item))).collect()
}

#[tokio::test]
async fn every_route_is_in_the_document_and_every_entry_is_a_route() {
    let server = Server::new().await;
    let answer = server.get("/openapi.json").await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"));
    let document = answer.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    let routes = routes(&document);
    assert_eq!(routes.len(), 20);
    for (path, methods) in &routes {
        for method in &METHODS {
            let answer = send(&server, method, path).await;
            if methods.contains(method) {
                let code = answer
                    .body
                    .as_deref()
                    .and_then(|body| serde_json::from_slice::<Value>(body).ok())
                    .unwrap_or_default();
                let missing = answer.status == StatusCode::METHOD_NOT_ALLOWED || code["code"] == "no_such_route";
                assert!(!missing, "{method} {path}: {answer:?}");
            } else {
                assert_problem(&answer, 405, "method_not_allowed");
                let allowed: Vec<_> = answer.header("allow").split(',').filter(|method| *method != "HEAD").collect();
                let wanted: Vec<_> = methods.iter().map(Method::as_str).collect();
                assert!(
                    allowed.len() == wanted.len() && wanted.iter().all(|method| allowed.contains(method)),
                    "{method} {path}: {allowed:?}"
                );
            }
        }
    }
    // The router knows no other way to get a route: each `routes!` is in the document.
    let (router, _) = ROUTER.split_once("pub fn waiting").unwrap();
    assert!(!router.contains(".route(") && !router.contains("nest(") && !router.contains("merge("));
    let handlers = router
        .split("routes!(")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .flat_map(|(names, _)| names.split(','));
    assert_eq!(handlers.count(), routes.iter().map(|(_, methods)| methods.len()).sum::<usize>());
}

#[tokio::test]
async fn what_an_operation_may_answer_is_described() {
    let document = Server::new().await.get("/openapi.json").await.json();
    for (path, methods) in routes(&document) {
        for method in methods {
            let operation = &document["paths"][&path][method.as_str().to_lowercase()];
            let responses = operation["responses"].as_object().unwrap();
            assert!(operation["summary"].is_string(), "{method} {path}");
            assert!(responses.keys().any(|status| status.starts_with('2')), "{method} {path}");
            assert_eq!(operation.get("security").is_some(), responses.contains_key("401"), "{method} {path}");
            for (status, response) in responses.iter().filter(|(status, _)| status.as_str() >= "400") {
                let schema = &response["content"]["application/problem+json"]["schema"]["$ref"];
                assert_eq!(schema, "#/components/schemas/Problem", "{method} {path} {status}");
            }
        }
    }
}

#[tokio::test]
async fn the_manual_has_every_route() {
    let document = Server::new().await.get("/openapi.json").await.json();
    for (path, methods) in routes(&document) {
        for method in methods {
            let wanted = format!("`{method} {path}");
            assert!(API_MD.contains(&wanted), "docs/API.md says nothing of {method} {path}");
        }
    }
}
