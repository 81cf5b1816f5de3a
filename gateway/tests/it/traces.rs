//! Request ids, traces, and what the log says of a request.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;

use crate::{MIB, World, client::Request, with};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// The line that has `part`, once it is there.
    async fn line(&self, part: &str) -> serde_json::Value {
        let find = async {
            loop {
                let text = String::from_utf8(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()).unwrap();
                if let Some(line) = text.lines().find(|line| line.contains(part)) {
                    return serde_json::from_str(line).unwrap();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), find).await.unwrap_or_else(|_| panic!("no line with {part}"))
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_one_id_and_one_trace_everywhere() {
    let log = Log::default();
    // Of all threads, pingora's too, and so of the tests beside this one.
    let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_writer(log.clone());
    tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
    let world = World::new().await;
    let known = |request: Request, id: &str| {
        let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
        request.header("x-request-id", id).header("traceparent", &parent).header("tracestate", "a=1")
    };

    let reply = world.send(known(Request::post("/largefile?jwt=secret", b"x"), "test-asked")).await;
    assert_eq!((reply.status, reply.one("x-request-id")), (402, "test-asked"));
    assert!(reply.one("access-control-expose-headers").contains("X-Request-Id"));
    let line = log.line("test-asked").await;
    let said = |name: &str| line[name].as_str().unwrap_or_else(|| panic!("{name}: {line}")).to_owned();
    assert_eq!((said("service"), said("outcome"), said("code")).0, "media");
    assert_eq!((said("outcome"), said("code")), ("challenged".into(), "payment_required".into()));
    assert_eq!((said("trace_id"), said("http"), said("path")), (TRACE.into(), "HTTP/1.1".into(), "/largefile".into()));
    assert!(!line.to_string().contains("secret"), "{line}");

    let credential = world.pay(&reply).await;
    let reply = world.send(known(with(Request::post("/largefile", b"x"), &credential), "test-paid")).await;
    assert_eq!((reply.status, reply.one("x-request-id")), (200, "test-paid"));
    let seen = world.behind.seen().pop().unwrap();
    assert_eq!(
        (seen.headers["x-request-id"].as_bytes(), seen.headers["tracestate"].as_bytes()),
        (&b"test-paid"[..], &b"a=1"[..])
    );
    let parent = seen.headers["traceparent"].to_str().unwrap();
    assert!(parent.starts_with(&format!("00-{TRACE}-")) && parent.ends_with("-01"), "{parent}");
    assert!(!parent.contains("b7ad6b7169203331"), "{parent}");
    assert_eq!(log.line("test-paid").await["outcome"], "paid");

    let big = with(Request::post("/largefile", &vec![7; 3 * MIB + 1]), &credential).chunked(true);
    let reply = world.send(known(big, "test-large")).await;
    assert_eq!((reply.status, reply.one("x-request-id")), (413, "test-large"));
    let line = log.line("test-large").await;
    assert_eq!((&line["outcome"], &line["code"]), (&"failed".into(), &"too_large".into()));

    // Without any, it is given both.
    let reply = world.send(Request::new("GET", "/ping")).await;
    let made = reply.one("x-request-id");
    assert_eq!(made.len(), 32);
    let line = log.line(made).await;
    let seen = world.behind.seen().pop().unwrap();
    assert_eq!(seen.headers["x-request-id"], made);
    let trace_id = line["trace_id"].as_str().unwrap();
    assert!(seen.headers["traceparent"].to_str().unwrap().starts_with(&format!("00-{trace_id}-")));
    world.gateway.stop().await;
}
