//! Uploads into an S3 server that fails on the way: a clear answer, nothing half-stored, and the use given back.

use std::sync::atomic::{AtomicBool, Ordering};

use http::StatusCode;

use super::{
    super::*,
    rig::{PATIENCE, Rig, file_form, paid_order},
};
use crate::{
    db::Media,
    store::{
        S3Config, S3Store,
        contract::{self, bytes},
        s3::tests::{
            config,
            peer::{Call, Fate, S3Peer},
        },
    },
};

const MIB: usize = 1 << 20;

/// What is in trouble.
type Trouble = fn(Call, usize) -> Fate;

/// Uploads into a server that is in trouble until it is well again.
struct S3Rig {
    rig: Rig,
    peer: S3Peer,
    store: S3Store,
    well: Arc<AtomicBool>,
}

impl S3Rig {
    async fn new(trouble: Trouble) -> Self {
        let well = Arc::new(AtomicBool::new(false));
        let is_well = Arc::clone(&well);
        let ask = move |call, before| if is_well.load(Ordering::SeqCst) { Fate::Served } else { trouble(call, before) };
        let peer = S3Peer::with(true, ask).await;
        let mut config = config(peer.endpoint());
        impatient(&mut config);
        let store = S3Store::new(&config);
        let rig = Rig::build(|db, _| Uploads::new(db, Arc::new(store.clone()), None)).await;
        Self { rig, peer, store, well }
    }

    /// Uploads a file of `len` bytes on the token for one.
    async fn upload(&self, file: &[u8]) -> Result<Media, UploadError> {
        tokio::time::timeout(PATIENCE, self.rig.upload(paid_order(), file_form(file))).await.expect("in bounds")
    }

    /// Once no upload is under way, there are `stored` objects and rows, and nothing else of any upload.
    async fn has_only(&self, stored: usize, what: &str) {
        tokio::time::timeout(PATIENCE, self.rig.uploads.wait()).await.expect("uploads end");
        // The server may still be writing a part whose sender has gone.
        let swept = async {
            while !self.peer.unfinished().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let swept = tokio::time::timeout(PATIENCE, swept).await;
        assert!(swept.is_ok(), "{what}: {:?}", self.peer.unfinished());
        assert_eq!(self.peer.objects().len(), stored, "{what}");
        assert_eq!(self.rig.count("SELECT count(*) FROM content").await, stored as i64, "{what}");
        assert_eq!(
            self.rig.count("SELECT count(*) FROM paid_upload WHERE stored_at IS NULL").await,
            0,
            "{what}: held uses"
        );
    }
}

fn impatient(config: &mut S3Config) {
    config.timeouts.read = Duration::from_secs(2);
    config.timeouts.complete = Duration::from_secs(2);
    config.timeouts.slowest_bytes_per_sec = 8 << 20;
    config.attempts = 2;
}

const BROKEN: Fate = Fate::Refused(500, "InternalError");
const LARGE: usize = 17 * MIB;

#[tokio::test]
async fn a_server_in_trouble_is_a_clear_error_and_leaves_nothing() {
    let away = (StatusCode::SERVICE_UNAVAILABLE, "store_away");
    let full = (StatusCode::INSUFFICIENT_STORAGE, "storage_unavailable");
    let refused = (StatusCode::SERVICE_UNAVAILABLE, "storage_unavailable");
    let troubles: [(&str, usize, Trouble, _); 12] = [
        ("500 at a PUT", 1_000, |call, _| if call == Call::Put { BROKEN } else { Fate::Served }, away),
        ("silence at a PUT", 1_000, |call, _| if call == Call::Put { Fate::Silent } else { Fate::Served }, away),
        ("a PUT cut off", 1_000, |call, _| if call == Call::Put { Fate::Cut } else { Fate::Served }, away),
        ("500 at the first look", 1_000, |call, _| if call == Call::Head { BROKEN } else { Fate::Served }, away),
        ("500 at the begin", LARGE, |call, _| if call == Call::Begin { BROKEN } else { Fate::Served }, away),
        (
            "500 in the middle of the parts",
            LARGE,
            |call, before| if call == Call::Part && before >= 1 { BROKEN } else { Fate::Served },
            away,
        ),
        (
            "silence in the middle of the parts",
            LARGE,
            |call, before| if call == Call::Part && before >= 1 { Fate::Silent } else { Fate::Served },
            away,
        ),
        (
            "parts cut off",
            LARGE,
            |call, before| if call == Call::Part && before >= 2 { Fate::Cut } else { Fate::Served },
            away,
        ),
        ("500 at the completion", LARGE, |call, _| if call == Call::Complete { BROKEN } else { Fate::Served }, away),
        (
            "the completion's answer lost, and nobody to ask",
            LARGE,
            |call, before| match call {
                Call::Complete => Fate::AnswerLost,
                Call::Head if before > 0 => BROKEN,
                _ => Fate::Served,
            },
            // The copy was made, and nobody can see it.
            away,
        ),
        (
            "a full bucket in the middle of the parts",
            LARGE,
            |call, before| match call {
                Call::Part if before >= 1 => Fate::Refused(403, "QuotaExceeded"),
                _ => Fate::Served,
            },
            full,
        ),
        (
            "rights withdrawn in the middle of the parts",
            LARGE,
            |call, before| match call {
                Call::Part if before >= 1 => Fate::Refused(403, "AccessDenied"),
                _ => Fate::Served,
            },
            refused,
        ),
    ];
    let file = bytes(LARGE);
    for (what, len, trouble, expected) in troubles {
        let file = &file[..len];
        let rig = S3Rig::new(trouble).await;
        let problem = rig.upload(file).await.unwrap_err().to_problem();
        assert_eq!((problem.status(), problem.code()), expected, "{what}");
        rig.has_only(0, what).await;
        // The token's one use is there again.
        rig.well.store(true, Ordering::SeqCst);
        let media = rig.upload(file).await.unwrap();
        let key = rig.rig.db.content(media.muid, Variant::File).await.unwrap().unwrap().store_key;
        assert!(contract::get(&rig.store, &key, 0..len as u64).await.unwrap() == file, "{what}");
        rig.has_only(1, what).await;
    }
}

#[tokio::test]
async fn what_cannot_be_removed_while_the_server_is_away_is_swept_when_it_is_back() {
    // It goes away in the middle and stays away.
    let rig = S3Rig::new(|call, before| match call {
        Call::Head | Call::Begin => Fate::Served,
        Call::Part if before < 1 => Fate::Served,
        _ => Fate::Cut,
    })
    .await;
    assert!(rig.upload(&bytes(LARGE)).await.is_err());
    tokio::time::timeout(PATIENCE, rig.rig.uploads.wait()).await.unwrap();
    assert!(!rig.peer.unfinished().is_empty());
    assert_eq!(rig.rig.count("SELECT count(*) FROM content WHERE state = 'discarded'").await, 1);
    // The use is free all the same.
    assert_eq!(rig.rig.count("SELECT count(*) FROM paid_upload").await, 0);

    rig.well.store(true, Ordering::SeqCst);
    // Another process, which knows nothing of the upload but its row.
    let store = S3Store::new(&config(rig.peer.endpoint()));
    assert_eq!(sweeper::sweep_once(&*rig.rig.db, &store, OffsetDateTime::now_utc()).await.unwrap(), 1);
    rig.has_only(0, "swept").await;
}

#[tokio::test]
async fn who_hangs_up_in_the_middle_of_the_parts_leaves_nothing() {
    let rig = S3Rig::new(|_, _| Fate::Served).await;
    let mut form = file_form(&bytes(LARGE));
    form.truncate(17 * MIB);
    let (sender, body) = super::rig::slow_body();
    let upload = rig.rig.begin(body);
    for piece in form.chunks(MIB) {
        sender.send(Ok(piece.to_vec().into())).await.unwrap();
    }
    super::rig::eventually("parts", async || rig.peer.count(Call::Part) >= 2).await;
    sender.send(super::rig::hang_up()).await.unwrap();
    assert!(matches!(upload.await.unwrap(), Err(UploadError::IncompleteBody)));
    rig.has_only(0, "hung up").await;
}
