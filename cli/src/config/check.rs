//! What can be said of settings only once they are all known.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::{GatewaySettings, Parts, S3Settings, ServiceSettings, Settings, StorageMode, settings::BackendSettings};

/// Settings that are each well formed and yet cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// Something that only LND needs, without LND.
    #[error("[lightning] {0} is for kind = \"lnd\", but kind is \"wallet\"")]
    ForLnd(&'static str),
    /// Something that LND needs.
    #[error("[lightning] kind = \"lnd\" needs {0}")]
    LndLacks(&'static str),
    /// Two settings of which one would go unseen.
    #[error("[lightning] {0} and {1} are two ways to say one thing; say only one")]
    SaidTwice(&'static str, &'static str),
    /// No network of LND's.
    #[error(
        "[lightning] network = \"test-wallet\" is the embedded wallet's; LND's are mainnet, testnet, signet, simnet and regtest"
    )]
    WalletNetwork,
    /// The backend asks no node.
    #[error("[lightning] kind = \"lnd\" needs network here: `sluice backend` alone cannot ask the node for it")]
    BackendNetwork,
    /// Something that S3 needs.
    #[error(
        "[backend] storage_mode = \"s3\" (STORAGE_MODE) needs [backend.s3] {0} ({1}); roles of machines are not asked for one"
    )]
    S3Lacks(&'static str, &'static str),
    /// No place of an S3 server.
    #[error("[backend.s3] endpoint (S3_ENDPOINT): \"{0}\" is not http://HOST[:PORT] or https://HOST[:PORT]")]
    S3Endpoint(String),
    /// No bucket.
    #[error("[backend.s3] bucket (S3_BUCKET): \"{0}\" is not the name of a bucket")]
    S3Bucket(String),
    /// A database that cannot be asked.
    #[error("[backend] database_url (DATABASE_URL): {0}")]
    BackendDatabase(#[source] sluice_backend::db::DbError),
    /// No public key of a node.
    #[error("[backend] template_uploaders: \"{0}\" is not a node's public key of 33 bytes in hex")]
    TemplateUploader(String),
    /// Half of what the Podcast Index needs. The other half alone is what sphinx-meme's operators have.
    #[error("[backend] podcast_index_key (PODCAST_INDEX_KEY) needs podcast_index_secret (PODCAST_INDEX_SECRET)")]
    PodcastIndex,
    /// A text that cannot be asked.
    #[error("[backend] {0} cannot be sent to the Podcast Index: it is not {1}")]
    PodcastIndexText(&'static str, &'static str),
    /// Play money for everyone.
    #[error(
        "the embedded wallet is no real money: with it, {0} listens on {1}, where others can reach it; \
         if that is meant, say [lightning] allow_test_wallet = true"
    )]
    TestWalletExposed(&'static str, SocketAddr),
    /// Two servers at one place.
    #[error("{0} and {1} cannot both listen on {2}")]
    SameAddress(&'static str, &'static str, SocketAddr),
    /// A name that cannot stand in a media token.
    #[error("[backend] host (HOST): \"{0}\" is not a host name in ASCII")]
    Host(String),
    /// No port that clients could know.
    #[error("[gateway] {0}: port 0 would be another one each time")]
    NoPort(&'static str),
    /// A part of what TLS needs.
    #[error("[gateway] tls_listen, tls_certificate and tls_key need each other")]
    Tls,
    /// Clients would be sent to where nobody is.
    #[error("[gateway] https_port needs tls_listen")]
    HttpsPort,
    /// Nobody would count its uses.
    #[error(
        "service `{0}`: reuse: nobody would count; the media server counts paid uploads (POST /largefile), the gateway the requests to servers that do not see the token (forward_credential = false)"
    )]
    Uncounted(String),
    /// Nobody could pay for an upload.
    #[error("no [[service]] protects \"POST /largefile\": the backend would know no token")]
    NoPaidUpload,
    /// A flag for the only service, where there is not just one.
    #[error("--price-sat and --max-mb are for one [[service]], but there are {0}")]
    WhichService(usize),
    /// Neither of two ways to count what is for nothing, or both.
    #[error("service `{0}`: freebies: say either requests or mb")]
    Freebies(String),
    /// Neither of two ways to say what costs, or both.
    #[error("service `{0}`: say what costs (protect) or what does not (free), one of the two")]
    ProtectOrFree(String),
    /// Not a method.
    #[error("service `{service}`: `{method}` is no method")]
    Method {
        /// The service.
        service: String,
        /// What stands there.
        method: String,
    },
    /// A list of a service with something in it that cannot be.
    #[error("service `{service}`: {error}")]
    InService {
        /// The service.
        service: String,
        /// What is wrong.
        error: sluice_gateway::config::ConfigError,
    },
    /// A header with a variable that is not there.
    #[error("service `{service}`: headers: `{header}` needs the environment variable {variable}, which is not set")]
    HeaderVariable {
        /// The service.
        service: String,
        /// The header.
        header: String,
        /// The variable.
        variable: String,
    },
    /// A file of a service that cannot be read.
    #[error("service `{service}`: {key}: {}: {source}", path.display())]
    ServiceFile {
        /// The service.
        service: String,
        /// The key in the file.
        key: &'static str,
        /// Its file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A service that cannot be sold.
    #[error(transparent)]
    Sales(#[from] sluice_gateway::config::ConfigError),
}

impl Invalid {
    pub(super) fn file(service: &ServiceSettings, key: &'static str, path: &Path, source: io::Error) -> Self {
        Self::ServiceFile { service: service.name.clone(), key, path: path.to_owned(), source }
    }
}

/// Checks what `parts` need.
pub(super) fn check(settings: &Settings, parts: Parts) -> Result<(), Invalid> {
    settings.lightning.check(parts)?;
    if parts.has_backend() && settings.backend.storage_mode == StorageMode::S3 {
        check_s3(&settings.backend.s3)?;
    }
    if parts.has_backend() {
        settings.backend_database_config()?;
    }
    let host = settings.host();
    if host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Invalid::Host(host));
    }
    settings.gateway.check_tls()?;
    check_addresses(settings, parts)?;
    settings.template_uploaders()?;
    check_podcast_index(&settings.backend)?;
    settings.check_services()?;
    if parts.has_backend() { settings.media_terms().map(drop) } else { Ok(()) }
}

fn check_podcast_index(backend: &BackendSettings) -> Result<(), Invalid> {
    if backend.podcast_index_key.is_some() && backend.podcast_index_secret.is_none() {
        return Err(Invalid::PodcastIndex);
    }
    if !backend.podcast_index_key.iter().all(|key| key.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Err(Invalid::PodcastIndexText("podcast_index_key", "visible ASCII"));
    }
    match backend.podcast_index_url.parse::<http::Uri>() {
        Ok(url) if matches!(url.scheme_str(), Some("http" | "https")) && url.query().is_none() => Ok(()),
        _ => Err(Invalid::PodcastIndexText("podcast_index_url", "an http or https address")),
    }
}

fn check_s3(s3: &S3Settings) -> Result<(), Invalid> {
    // The names that AWS allows, and `_` and capitals, which others do.
    let name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if !(3..=63).contains(&s3.bucket.len()) || !s3.bucket.bytes().all(name) {
        return Err(Invalid::S3Bucket(s3.bucket.clone()));
    }
    if let Some(endpoint) = &s3.endpoint {
        let uri = endpoint.parse::<http::Uri>().ok();
        let is_place = uri.is_some_and(|uri| {
            // Without user and password, which would be printed.
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
                && matches!(uri.path(), "" | "/")
                && uri.query().is_none()
        });
        if !is_place {
            return Err(Invalid::S3Endpoint(endpoint.rsplit('@').next().unwrap_or_default().to_owned()));
        }
    }
    if s3.access_key_id.is_none() {
        return Err(Invalid::S3Lacks("access_key_id", "AWS_ACCESS_KEY_ID or S3_KEY"));
    }
    if s3.secret_access_key.is_none() {
        return Err(Invalid::S3Lacks("secret_access_key", "AWS_SECRET_ACCESS_KEY or S3_SECRET"));
    }
    Ok(())
}

fn check_addresses(settings: &Settings, parts: Parts) -> Result<(), Invalid> {
    if parts.has_gateway() && settings.gateway.listen.port() == 0 {
        return Err(Invalid::NoPort("listen"));
    }
    let GatewaySettings { listen, admin_listen, tls_listen, .. } = settings.gateway;
    let tls = tls_listen.map(|address| ("its TLS address", address));
    let gateway = [("the gateway", listen), ("its admin address", admin_listen)];
    let gateway = gateway.into_iter().chain(tls).filter(|_| parts.has_gateway());
    if settings.lightning.is_wallet()
        && !settings.lightning.allow_test_wallet
        && let Some((who, address)) = gateway.clone().find(|(_, address)| !address.ip().is_loopback())
    {
        return Err(Invalid::TestWalletExposed(who, address));
    }
    let backend = [("the backend", settings.backend.listen)].into_iter().filter(|_| parts.has_backend());
    let all: Vec<_> = gateway.chain(backend).collect();
    for (at, (second, address)) in all.iter().enumerate() {
        let same = all[..at].iter().find(|(_, other)| other == address && address.port() != 0);
        if let Some((first, _)) = same {
            return Err(Invalid::SameAddress(first, second, *address));
        }
    }
    Ok(())
}
