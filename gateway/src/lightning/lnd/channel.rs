//! The way to an LND node: TLS with its own certificate and no other, HTTP/2, the macaroon in every call.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use fedimint_tonic_lnd::{
    lnrpc::lightning_client::LightningClient,
    tonic::{
        Request, Status,
        metadata::{Ascii, MetadataValue},
        service::{Interceptor, interceptor::InterceptedService},
        transport::{Channel, Endpoint},
    },
};
use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use tokio::time::{Instant, timeout};
use tower::Service;
use zeroize::Zeroizing;

use super::{LndConfig, LndConfigError};

/// How long it may take to connect, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The pauses between attempts to connect, from the first failure on: doubled each time up to the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// After how long a silence it is asked whether the node is still there, and how long the answer may take. By HTTP/2
/// only while a call is under way: LND takes pings without one amiss.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// The largest answer: a page of invoices.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// LND's client, with the macaroon in every call. Cheap to clone; all clones share a connection.
pub(super) type Client = LightningClient<InterceptedService<Channel, Authenticate>>;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A client of the node; it connects when it is first used, and again whenever the connection is gone. Must be called
/// in a tokio runtime, which keeps the connection.
pub(super) fn client(config: &LndConfig) -> Result<Client, LndConfigError> {
    check(config)?;
    let uri = uri(&config.address)?;
    let connector = Patient::new(https(pinning(&config.tls_cert)?));
    let channel = Endpoint::from(uri)
        .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")))
        .map_err(|_| LndConfigError::Address(config.address.clone()))?
        .http2_keep_alive_interval(KEEP_ALIVE.0)
        .keep_alive_timeout(KEEP_ALIVE.1)
        .connect_with_connector_lazy(connector);
    let hex = Zeroizing::new(hex::encode(config.macaroon.expose()));
    let mut macaroon = MetadataValue::try_from(hex.as_str()).map_err(|_| LndConfigError::Macaroon)?;
    macaroon.set_sensitive(true);
    let client = LightningClient::with_interceptor(channel, Authenticate { macaroon });
    Ok(client.max_decoding_message_size(MAX_ANSWER_BYTES))
}

/// Whether there can be a client.
pub(super) fn check(config: &LndConfig) -> Result<(), LndConfigError> {
    uri(&config.address)?;
    pinning(&config.tls_cert)?;
    if config.macaroon.expose().is_empty() { Err(LndConfigError::Macaroon) } else { Ok(()) }
}

/// `https://HOST:PORT` of a `HOST:PORT`, as other programs' `lndhost` has it.
fn uri(address: &str) -> Result<Uri, LndConfigError> {
    let error = || LndConfigError::Address(address.to_owned());
    let bare = address.strip_prefix("https://").unwrap_or(address);
    let uri: Uri = format!("https://{bare}").parse().map_err(|_| error())?;
    let is_bare = uri.path() == "/" && uri.query().is_none() && !bare.contains('@') && !bare.ends_with('/');
    let has_host = uri.host().is_some_and(|host| !host.is_empty());
    if is_bare && has_host && uri.port_u16().is_some() { Ok(uri) } else { Err(error()) }
}

/// Puts the macaroon into every call, as LND wants it: hex, in the metadata `macaroon`.
#[derive(Clone)]
pub(super) struct Authenticate {
    macaroon: MetadataValue<Ascii>,
}

impl Interceptor for Authenticate {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("macaroon", self.macaroon.clone());
        Ok(request)
    }
}

fn https(config: ClientConfig) -> hyper_rustls::HttpsConnector<HttpConnector> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    // While no call is under way, this finds out that the node's machine is gone; and a call into a dead connection is
    // not waited for longer.
    tcp.set_keepalive(Some(KEEP_ALIVE.0));
    tcp.set_keepalive_interval(Some(KEEP_ALIVE.1));
    tcp.set_keepalive_retries(Some(3));
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(KEEP_ALIVE.0));
    hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http2().wrap_connector(tcp)
}

/// TLS that takes a server with one of the certificates in `pem`, and no other.
fn pinning(pem: &[u8]) -> Result<ClientConfig, LndConfigError> {
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| LndConfigError::Certificate)?;
    if certificates.is_empty() {
        return Err(LndConfigError::Certificate);
    }
    let provider = Arc::new(ring::default_provider());
    let pinned = Arc::new(Pinned { certificates, provider: provider.clone() });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(pinned)
        .with_no_client_auth();
    Ok(config)
}

/// Takes a certificate that is known byte by byte. LND signs its own, as an authority, which no chain can be built of;
/// names and dates in it add nothing to knowing it.
#[derive(Debug)]
struct Pinned {
    certificates: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        if self.certificates.iter().any(|pinned| pinned == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Why there is no connection. Says nothing of what was to be sent.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("it shows another certificate than the one that is configured")]
    OtherCertificate,
    #[error("no connection within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout,
    #[error("{0}")]
    Failed(Arc<str>),
}

impl ConnectError {
    /// What was wrong in the end: the first cause says most.
    fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut cause = error;
        loop {
            // An `io::Error` hides what is in it from `source`.
            let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            match inner.map(|inner| inner as &(dyn std::error::Error + 'static)).or_else(|| cause.source()) {
                Some(next) => cause = next,
                None => break,
            }
        }
        let other = TlsError::from(CertificateError::ApplicationVerificationFailure);
        match cause.downcast_ref::<TlsError>() {
            Some(error) if *error == other => Self::OtherCertificate,
            _ => Self::Failed(cause.to_string().into()),
        }
    }
}

/// A connector that waits longer and longer between attempts that fail, so that a flood of requests is no flood of
/// connections. In between it fails at once, and says why the last attempt did.
#[derive(Clone)]
struct Patient<C> {
    connector: C,
    state: Arc<Mutex<Option<Failure>>>,
}

/// What became of the last attempt.
struct Failure {
    error: ConnectError,
    pause: Duration,
    next_attempt: Instant,
}

impl<C> Patient<C> {
    fn new(connector: C) -> Self {
        Self { connector, state: Arc::default() }
    }
}

impl Failure {
    fn after(last: Option<&Self>, error: ConnectError) -> Self {
        let pause = last.map_or(BACKOFF.0, |last| (last.pause * 2).min(BACKOFF.1));
        Self { error, pause, next_attempt: Instant::now() + pause }
    }
}

impl<C> Service<Uri> for Patient<C>
where
    C: Service<Uri, Error = BoxError>,
    C::Future: Send + 'static,
    C::Response: Send + 'static,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let state = Arc::clone(&self.state);
        let wait =
            lock(&state).as_ref().filter(|last| Instant::now() < last.next_attempt).map(|last| last.error.clone());
        if let Some(error) = wait {
            return Box::pin(async move { Err(error.into()) });
        }
        let connecting = self.connector.call(uri);
        Box::pin(async move {
            let error = match timeout(CONNECT_TIMEOUT, connecting).await {
                Ok(Ok(connection)) => {
                    *lock(&state) = None;
                    return Ok(connection);
                }
                Ok(Err(error)) => ConnectError::of(&*error),
                Err(_) => ConnectError::Timeout,
            };
            let mut state = lock(&state);
            *state = Some(Failure::after(state.as_ref(), error.clone()));
            Err(error.into())
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is in there is whole at any time.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Authenticate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authenticate([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use rustls::{ServerConfig, pki_types::PrivateKeyDer};
    use sluice_common::secret::Secret;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::lightning::{InvoiceOrder, LightningError, LightningNode, LndNode};

    // Self-signed authorities for a name that is not asked for, as those that LND makes may be.
    const ONE: &str = include_str!("../../../testdata/lnd/one.cert");
    const OTHER: &str = include_str!("../../../testdata/lnd/other.cert");
    const ONES_KEY: &str = include_str!("../../../testdata/lnd/one.key");

    /// A server that shows the certificate `ONE`, and then says nothing.
    async fn server() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let certificate = CertificateDer::from_pem_slice(ONE.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(ONES_KEY.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            let mut open = Vec::new();
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                // Who takes the certificate for another's breaks off.
                open.extend(acceptor.accept(connection).await.ok());
            }
        });
        address
    }

    #[tokio::test]
    async fn talks_to_nobody_but_who_has_a_configured_certificate() {
        let uri = uri(&server().await).unwrap();
        for (pem, is_taken) in [
            (ONE.to_owned(), true),
            (OTHER.to_owned(), false),
            (format!("{OTHER}{ONE}"), true),
            (format!("{ONE}{OTHER}"), true),
        ] {
            let connected = Patient::new(https(pinning(pem.as_bytes()).unwrap())).call(uri.clone()).await;
            let error = connected.err().map(|error| error.downcast::<ConnectError>().unwrap());
            assert_eq!(error.is_none(), is_taken, "{error:?}");
            assert!(error.is_none_or(|error| matches!(*error, ConnectError::OtherCertificate)));
        }
    }

    #[tokio::test]
    async fn without_a_connection_nothing_was_asked() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
        for (address, said) in [(server().await, "another certificate"), (closed, "refused")] {
            let config = LndConfig {
                address,
                tls_cert: OTHER.into(),
                macaroon: Secret::new(vec![1]),
                network: None,
                private: false,
            };
            let order = InvoiceOrder { amount_sat: 1, memo: String::new(), expiry: Duration::from_secs(60) };
            let node = LndNode::new(&config).unwrap();
            // The second attempt is not even made.
            for _ in 0..2 {
                let error = node.create_invoice(&order).await.unwrap_err();
                assert!(matches!(&error, LightningError::Unreached(text) if text.contains(said)), "{error:?}");
                assert!(error.made_no_invoice());
            }
        }
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for address in ["localhost:10009", "10.0.0.1:10009", "[::1]:10009", "node.example:1", "https://localhost:10009"]
        {
            let uri = uri(address).unwrap();
            assert_eq!((uri.scheme_str(), uri.path()), (Some("https"), "/"), "{address}");
        }
        assert_eq!(uri("[::1]:10009").unwrap().authority().unwrap(), "[::1]:10009");
        for address in
            ["", "localhost", ":10009", "::1:10009", "http://a:1", "a:1/", "a:1/b", "a:1?b", "u@a:1", "a:99999"]
        {
            assert!(matches!(uri(address), Err(LndConfigError::Address(_))), "{address}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waits_longer_after_each_failure_and_is_ready_again_at_once() {
        let attempts = Arc::new(Mutex::new(0));
        let fails = Arc::new(Mutex::new(true));
        let (count, failing) = (attempts.clone(), fails.clone());
        let mut connector = Patient::new(tower::service_fn(move |_: Uri| {
            *lock(&count) += 1;
            let result = if *lock(&failing) { Err(BoxError::from("refused")) } else { Ok(()) };
            async { result }
        }));
        let uri = Uri::from_static("https://a:1");
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(60) {
            assert_eq!(connector.call(uri.clone()).await.unwrap_err().to_string(), "refused");
            tokio::time::advance(Duration::from_millis(10)).await;
        }
        // At 0, 0.1, 0.3, 0.7, 1.5, 3.1, 6.3 s, and every 5 s from then on.
        assert_eq!(*lock(&attempts), 17);
        *lock(&fails) = false;
        tokio::time::advance(BACKOFF.1).await;
        connector.call(uri.clone()).await.unwrap();
        connector.call(uri.clone()).await.unwrap();
        *lock(&fails) = true;
        assert!(connector.call(uri.clone()).await.is_err());
        tokio::time::advance(BACKOFF.0).await;
        *lock(&fails) = false;
        connector.call(uri).await.unwrap();
    }
}
