//! An S3 server in this process: s3s-fs on a folder of its own, behind a layer that can do to each call what a network or
//! a troubled server does.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures_util::{StreamExt, future::ready, stream};
use http::{Method, Request, Response};
use http_body_util::{BodyDataStream, BodyExt, BodyStream, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use s3s::{
    auth::SimpleAuth,
    service::{S3Service, S3ServiceBuilder},
};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::Semaphore};

pub const BUCKET: &str = "sluice-tests";
pub const ACCESS_KEY_ID: &str = "sluice-test-key";
pub const SECRET_ACCESS_KEY: &str = "sluice-test-secret";

/// The calls of the S3 API that a store makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    Put,
    Begin,
    Part,
    Complete,
    Abort,
    List,
    Head,
    Get,
    Delete,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is answered.
    Served,
    /// It is answered with this status and code, and not done.
    Refused(u16, &'static str),
    /// The connection is cut off, and it is not done.
    Cut,
    /// It is done, and the connection is cut off in place of the answer.
    AnswerLost,
    /// So many bytes of the answer's body come, then the connection is cut off.
    CutAfter(usize),
    /// It is neither done nor answered.
    Silent,
    /// It is begun, and goes on once [`S3Peer::release`] lets it.
    Held,
}

type Ask = dyn Fn(Call, usize) -> Fate + Send + Sync;
type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// The server, until it is dropped.
pub struct S3Peer {
    folder: TempDir,
    pub address: SocketAddr,
    calls: Arc<Calls>,
    task: tokio::task::JoinHandle<()>,
}

struct Calls {
    root: PathBuf,
    service: S3Service,
    /// What becomes of a call, by how many of its kind were before it.
    ask: Box<Ask>,
    /// Whether ListMultipartUploads is known, which s3s-fs lacks.
    lists: bool,
    counts: Mutex<HashMap<Call, usize>>,
    /// One for each call that it is at.
    now: Arc<()>,
    parts_now: AtomicUsize,
    parts_at_once: AtomicUsize,
    /// Closed once what is held may go on.
    held: Semaphore,
}

impl S3Peer {
    /// One that does all that it is asked.
    pub async fn start() -> Self {
        Self::with(true, |_, _| Fate::Served).await
    }

    /// One on which `ask` says what becomes of a call, by how many of its kind were before it.
    pub async fn with(lists: bool, ask: impl Fn(Call, usize) -> Fate + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(BUCKET)).unwrap();
        let mut service = S3ServiceBuilder::new(FileSystem::new(folder.path()).unwrap());
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY_ID, SECRET_ACCESS_KEY));
        let calls = Arc::new(Calls {
            root: folder.path().to_owned(),
            service: service.build(),
            ask: Box::new(ask),
            lists,
            counts: Mutex::default(),
            now: Arc::default(),
            parts_now: AtomicUsize::new(0),
            parts_at_once: AtomicUsize::new(0),
            held: Semaphore::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(serve(listener, Arc::clone(&calls)));
        Self { folder, address, calls, task }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The objects in the bucket, and their lengths.
    pub fn objects(&self) -> HashMap<String, u64> {
        let entries = std::fs::read_dir(self.folder.path().join(BUCKET)).unwrap();
        let entries = entries.map(Result::unwrap);
        entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len())).collect()
    }

    /// The file of an object.
    pub fn object(&self, key: &str) -> PathBuf {
        self.folder.path().join(BUCKET).join(key)
    }

    /// What is left of multipart uploads: parts, and what tells of an upload.
    pub fn unfinished(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).filter(|name| name.starts_with(".upload")).collect()
    }

    /// How many calls of a kind there were.
    pub fn count(&self, call: Call) -> usize {
        self.calls.counts.lock().unwrap().get(&call).copied().unwrap_or_default()
    }

    /// Whether no call is under way, not even one whose caller is gone.
    pub fn is_idle(&self) -> bool {
        Arc::strong_count(&self.calls.now) == 1
    }

    /// Lets what is held go on.
    pub fn release(&self) {
        self.calls.held.close();
    }

    /// The most parts that were under way at once.
    pub fn parts_at_once(&self) -> usize {
        self.calls.parts_at_once.load(Ordering::SeqCst)
    }
}

impl Drop for S3Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, calls: Arc<Calls>) {
    while let Ok((stream, _)) = listener.accept().await {
        let calls = Arc::clone(&calls);
        tokio::spawn(async move {
            let service = service_fn(|request| Arc::clone(&calls).answer(request));
            // Whoever hangs up is no failure of a test.
            let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn is_empty(frame: &Frame<Bytes>) -> bool {
    frame.data_ref().is_some_and(Bytes::is_empty)
}

/// Cuts the connection off.
fn cut<T>() -> io::Result<T> {
    Err(io::ErrorKind::ConnectionReset.into())
}

impl Calls {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> io::Result<Response<Body>> {
        let _now = Arc::clone(&self.now);
        let call = call_of(&request);
        let before = {
            let mut counts = self.counts.lock().unwrap();
            let count = counts.entry(call).or_default();
            *count += 1;
            *count - 1
        };
        match (self.ask)(call, before) {
            Fate::Served => self.serve(call, request.map(s3s::Body::from)).await,
            Fate::Held => {
                // A server looks at the head first.
                let calls = Arc::clone(&self);
                let held = stream::once(async move {
                    let _ = calls.held.acquire().await;
                    Ok(Frame::data(Bytes::new()))
                });
                let body = request.map(|body| held.chain(BodyStream::new(body)));
                self.serve(call, body.map(|body| s3s::Body::http_body_unsync(StreamBody::new(body)))).await
            }
            Fate::Cut => cut(),
            Fate::Silent => std::future::pending().await,
            Fate::AnswerLost => {
                self.serve(call, request.map(s3s::Body::from))
                    .await?
                    .into_body()
                    .collect()
                    .await
                    .map_err(io::Error::other)?;
                cut()
            }
            Fate::Refused(status, code) => {
                // The body first, as a server does that finds out late.
                request.into_body().collect().await.map_err(io::Error::other)?;
                let xml = format!("<Error><Code>{code}</Code><Message>as the test says</Message></Error>");
                Ok(Response::builder().status(status).body(whole(xml)).unwrap())
            }
            Fate::CutAfter(len) => {
                let (head, body) = self.serve(call, request.map(s3s::Body::from)).await?.into_parts();
                let mut left = len;
                let pieces = BodyDataStream::new(body).map(move |piece| {
                    let mut piece = piece?;
                    piece.truncate(left);
                    left -= piece.len();
                    Ok(Frame::data(piece))
                });
                let pieces = pieces.take_while(|piece| ready(!piece.as_ref().is_ok_and(is_empty)));
                let cut = stream::once(async {
                    // What came before is sent while this waits.
                    tokio::task::yield_now().await;
                    Err(io::Error::from(io::ErrorKind::ConnectionReset).into())
                });
                Ok(Response::from_parts(head, StreamBody::new(pieces.chain(cut)).boxed_unsync()))
            }
        }
    }

    async fn serve(&self, call: Call, request: Request<s3s::Body>) -> io::Result<Response<Body>> {
        if call == Call::List && self.lists {
            return Ok(Response::new(whole(self.list(request.uri().query().unwrap_or_default()))));
        }
        if call == Call::Part {
            let now = self.parts_now.fetch_add(1, Ordering::SeqCst) + 1;
            self.parts_at_once.fetch_max(now, Ordering::SeqCst);
        }
        let answered = self.service.call(request).await;
        if call == Call::Part {
            self.parts_now.fetch_sub(1, Ordering::SeqCst);
        }
        let answered = answered.map_err(|error| io::Error::other(format!("{error:?}")))?;
        Ok(answered.map(|body| body.map_err(Into::into).boxed_unsync()))
    }

    /// The unfinished uploads of a key, which stand in the names of s3s-fs's files.
    fn list(&self, query: &str) -> String {
        let prefix = query.split('&').find_map(|pair| pair.strip_prefix("prefix=")).unwrap_or_default();
        let names = std::fs::read_dir(&self.root).unwrap().map(|entry| entry.unwrap().file_name());
        let uploads = names.filter_map(|name| {
            let name = name.into_string().ok()?;
            let (key, upload) =
                name.split_once(".object-")?.1.strip_suffix(".metadata.json")?.split_once(".upload-")?;
            let key = String::from_utf8(URL_SAFE_NO_PAD.decode(key).ok()?).ok()?;
            key.starts_with(prefix).then(|| format!("<Upload><Key>{key}</Key><UploadId>{upload}</UploadId></Upload>"))
        });
        let uploads: String = uploads.collect();
        format!("<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>{uploads}</ListMultipartUploadsResult>")
    }
}

fn whole(text: String) -> Body {
    Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync()
}

fn call_of(request: &Request<Incoming>) -> Call {
    let query = request.uri().query().unwrap_or_default();
    let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    match *request.method() {
        Method::PUT if has("partNumber") => Call::Part,
        Method::PUT => Call::Put,
        Method::POST if has("uploads") => Call::Begin,
        Method::POST => Call::Complete,
        Method::DELETE if has("uploadId") => Call::Abort,
        Method::DELETE => Call::Delete,
        Method::HEAD => Call::Head,
        _ if has("uploads") => Call::List,
        _ => Call::Get,
    }
}
