//! The certificate that the gateway shows its clients. Its files are read again when they change; a pair that cannot be
//! used is refused, and the one before stays.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use rustls::{
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{task::JoinHandle, time::sleep};

/// How often it is looked whether the files have changed.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A certificate with its chain and its key, from two PEM files.
#[derive(Debug)]
pub struct ServerCertificate {
    certificate: PathBuf,
    key: PathBuf,
    shown: ArcSwap<CertifiedKey>,
}

/// Why a certificate cannot be shown. Never holds what stands in a key's file.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// No certificate.
    #[error("{}: no certificate in PEM", .0.display())]
    NoCertificate(PathBuf),
    /// No key.
    #[error("{}: no private key in PEM", .0.display())]
    NoKey(PathBuf),
    /// The two do not go together, or are of a kind that is not known.
    #[error("{} and {}: {source}", certificate.display(), key.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
}

/// Shows that a file is another one than before.
type Stamp = Option<(SystemTime, u64, u64)>;

impl ServerCertificate {
    /// The certificate and its chain in the file `certificate`, whose key is in the file `key`.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let shown = ArcSwap::from_pointee(read(certificate, key)?);
        Ok(Self { certificate: certificate.to_owned(), key: key.to_owned(), shown })
    }

    /// Reads the files again. What is wrong is logged, and the certificate stays.
    pub fn reload(&self) {
        match read(&self.certificate, &self.key) {
            Ok(read) => {
                self.shown.store(Arc::new(read));
                tracing::info!(certificate = %self.certificate.display(), "the TLS certificate was read again");
            }
            Err(error) => tracing::error!(%error, "the new TLS certificate is refused; the one before stays"),
        }
    }

    /// Reads the files again whenever they have changed and are no longer being written. The task never ends by itself.
    pub(crate) fn watch(self: Arc<Self>) -> JoinHandle<()> {
        let mut shown = self.stamps();
        let mut last = shown;
        tokio::spawn(async move {
            loop {
                sleep(LOOK_EVERY).await;
                let now = self.stamps();
                if now != shown && now == last {
                    self.reload();
                    shown = now;
                }
                last = now;
            }
        })
    }

    fn stamps(&self) -> [Stamp; 2] {
        [&self.certificate, &self.key].map(|path| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
        })
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.shown.load_full())
    }
}

fn read(certificate: &Path, key: &Path) -> Result<CertifiedKey, CertificateError> {
    let read =
        |path: &Path| fs::read(path).map_err(|source| CertificateError::Unreadable { path: path.to_owned(), source });
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&read(certificate)?)
        .collect::<Result<_, _>>()
        .map_err(|_| CertificateError::NoCertificate(certificate.to_owned()))?;
    if chain.is_empty() {
        return Err(CertificateError::NoCertificate(certificate.to_owned()));
    }
    let private = zeroize::Zeroizing::new(read(key)?);
    let private = PrivateKeyDer::from_pem_slice(&private).map_err(|_| CertificateError::NoKey(key.to_owned()))?;
    CertifiedKey::from_der(chain, private, &default_provider()).map_err(|source| CertificateError::Pair {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str) -> (PathBuf, PathBuf) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/tls");
        (folder.join(format!("{name}.cert")), folder.join(format!("{name}.key")))
    }

    #[test]
    fn a_pair_that_cannot_be_used_is_refused_and_the_one_before_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("cert"), folder.path().join("key"));
        let put = |from: &str| {
            fs::copy(pair(from).0, &certificate).unwrap();
            fs::copy(pair(from).1, &key).unwrap();
        };
        put("one");
        let loaded = ServerCertificate::load(&certificate, &key).unwrap();
        let shown = || loaded.shown.load().cert[0].to_vec();
        let one = shown();
        type Spoil<'a> = (&'a dyn Fn(), &'a str);
        let spoiled: [Spoil<'_>; 5] = [
            (&|| drop(fs::copy(pair("two").1, &key)), "key"),
            (&|| fs::write(&key, "junk").unwrap(), "no private key in PEM"),
            (&|| fs::write(&certificate, "").unwrap(), "no certificate in PEM"),
            (&|| fs::write(&certificate, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----").unwrap(), ""),
            (&|| fs::remove_file(&certificate).unwrap(), "No such file"),
        ];
        for (spoil, part) in spoiled {
            put("one");
            spoil();
            let error = ServerCertificate::load(&certificate, &key).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
            loaded.reload();
            assert_eq!(shown(), one, "{error}");
        }
        put("two");
        loaded.reload();
        assert_ne!(shown(), one);
    }
}
