//! Uploads into a real database and store. `rig` has the helpers.

mod leases;
mod refused;
mod rig;
mod s3;
mod survived;
mod trouble;

use std::mem;

use sluice_common::{
    dare::{self, Opener},
    limits::MAX_FORM_OVERHEAD_BYTES,
    muid::Muid,
};
use time::OffsetDateTime;

use self::{
    rig::{Rig, file_form, form, owner},
    trouble::{Step, Stepped},
};
use super::*;
use crate::store::contract::bytes;

/// What is in the store, opened with the sealing key if it is sealed.
async fn stored_bytes(rig: &Rig, muid: Muid) -> Vec<u8> {
    let content = rig.db.content(muid, crate::db::Variant::File).await.unwrap().unwrap();
    let copy = std::fs::read(rig.store_dir().join(content.store_key.as_str())).unwrap();
    assert_eq!(copy.len() as u64, content.stored_len());
    let Some(sealing) = content.sealing else { return copy };
    let key = rig::sealing_key();
    assert_eq!(sealing.key_fingerprint, key.fingerprint);
    let mut opener = Opener::new(&DataKey::derive(key.master.expose(), &sealing.nonce), 0, content.size).unwrap();
    let mut plain = Vec::new();
    opener.update(&copy, &mut plain).unwrap();
    opener.finish().unwrap();
    plain
}

#[tokio::test]
async fn stores_files_of_all_lengths_sealed_or_not() {
    for sealing_key in [Some(rig::sealing_key()), None] {
        let rig = Rig::with(sealing_key).await;
        for len in [1, 65_536, 65_537, 262_143, 262_144, 262_145, 524_288, 1_000_003] {
            let content = bytes(len);
            let media = rig.upload(rig::order(), file_form(&content)).await.unwrap();
            assert_eq!((media.muid, media.size), (Muid::of(&content), len as u64));
            assert!(stored_bytes(&rig, media.muid).await == content, "{len}");
        }
        assert_eq!(rig.files().len(), 8);
    }
}

#[tokio::test]
async fn each_copy_is_sealed_under_a_key_of_its_own() {
    let rig = Rig::new().await;
    let mut nonces = Vec::new();
    for content in [b"one", b"two"] {
        let media = rig.upload(rig::order(), file_form(content)).await.unwrap();
        nonces
            .push(rig.db.content(media.muid, crate::db::Variant::File).await.unwrap().unwrap().sealing.unwrap().nonce);
    }
    assert_ne!(nonces[0], nonces[1]);
}

#[tokio::test]
async fn keeps_what_the_form_says_before_and_after_the_file() {
    let rig = Rig::new().await;
    let media = rig
        .upload(
            rig::order(),
            form(&[
                ("name=\"name\"", b"\xc3\x9cber"),
                ("name=\"price\"", b"50"),
                ("name=\"junk\"", b"\0\xff"),
                (
                    "name=\"file\"; filename=\"a/b %22c%22.png\"\r\nContent-Type: image/png",
                    b"\r\n--not the boundary\r\n",
                ),
                ("name=\"tags\"", b"one, two"),
                ("name=\"name\"", b"second"),
                ("name=\"tags\"", b"three"),
                ("name=\"public\"", b"true"),
                ("name=\"expiry\"", b"4000000000"),
                ("name=\"ttl\"", b"60"),
                ("name=\"description\"", b"text"),
            ]),
        )
        .await
        .unwrap();
    assert_eq!((media.name.as_str(), media.description.as_str(), media.price_sat), ("Über", "text", 50));
    assert_eq!((media.filename.as_str(), media.mime.as_str()), ("b \"c\".png", "image/png"));
    assert_eq!(
        (media.tags, media.ttl_secs, media.public),
        (vec!["one".into(), "two".into(), "three".into()], 60, true)
    );
    assert_eq!(media.expiry, OffsetDateTime::from_unix_timestamp(4_000_000_000).ok());
    assert_eq!(stored_bytes(&rig, media.muid).await, b"\r\n--not the boundary\r\n");
}

#[tokio::test]
async fn has_defaults_for_all_but_the_file() {
    let rig = Rig::new().await;
    let media = rig.upload(rig::order(), form(&[("name=\"file\"", b"x")])).await.unwrap();
    assert_eq!((media.name.as_str(), media.description.as_str(), media.price_sat), ("name", "description", 0));
    assert_eq!((media.filename.as_str(), media.mime.as_str()), ("file", "application/octet-stream"));
    assert_eq!((media.tags, media.ttl_secs, media.expiry, media.public), (vec![], 31_536_000, None, false));
    assert_eq!(media.owner, owner(1));
}

#[tokio::test]
async fn the_route_says_what_is_public_unless_the_form_does() {
    let rig = Rig::new().await;
    for (route, field, public) in
        [(true, "", true), (true, "false", false), (false, "true", true), (false, "", false), (false, "0", false)]
    {
        let order = UploadOrder { public: route, ..rig::order() };
        let parts: [(&str, &[u8]); 2] = [("name=\"file\"", b"x"), ("name=\"public\"", field.as_bytes())];
        assert_eq!(rig.upload(order, form(&parts)).await.unwrap().public, public, "{route} {field}");
    }
}

#[tokio::test]
async fn limits_are_exact_to_the_byte() {
    let rig = Rig::new().await;
    for limit in [1, 3_000, 300_000] {
        let order = || UploadOrder { max_upload_bytes: limit, ..rig::order() };
        let fits = rig.upload(order(), file_form(&bytes(limit as usize))).await.unwrap();
        assert_eq!(fits.size, limit);
        match rig.upload(order(), file_form(&bytes(limit as usize + 1))).await {
            Err(UploadError::TooLarge { limit_bytes }) => assert_eq!(limit_bytes, limit),
            other => panic!("{other:?}"),
        }
    }
    rig.has_only(3).await;
}

#[tokio::test]
async fn the_rest_of_the_form_has_one_mib() {
    let rig = Rig::new().await;
    let around = form(&[("name=\"file\"", b"x"), ("name=\"junk\"", b"")]).len() as u64 - 1;
    for (len, fits) in [(MAX_FORM_OVERHEAD_BYTES - around, true), (MAX_FORM_OVERHEAD_BYTES - around + 1, false)] {
        let junk = bytes(len as usize);
        for parts in [
            [("name=\"file\"", &b"x"[..]), ("name=\"junk\"", &junk)],
            [("name=\"junk\"", &junk), ("name=\"file\"", b"x")],
        ] {
            let order = UploadOrder { max_upload_bytes: 1_000_000, ..rig::order() };
            let result = rig.upload(order, form(&parts)).await;
            match fits {
                true => assert!(result.is_ok(), "{result:?}"),
                false => assert!(matches!(result, Err(UploadError::FormTooLarge)), "{result:?}"),
            }
        }
        // What follows the last boundary counts too.
        let mut trailing = form(&[("name=\"file\"", b"x"), ("name=\"junk\"", b"")]);
        trailing.extend_from_slice(&junk);
        assert_eq!(rig.upload(rig::order(), trailing).await.is_ok(), fits);
    }
}

#[tokio::test]
async fn equal_content_is_stored_once() {
    let rig = Rig::new().await;
    for who in [1, 1, 2] {
        let order = UploadOrder { owner: owner(who), ..rig::order() };
        let media = rig.upload(order, file_form(b"the same")).await.unwrap();
        assert_eq!(media.owner, owner(who));
    }
    rig.has_only(1).await;
}

#[tokio::test]
async fn a_copy_that_is_lost_or_cut_is_replaced() {
    let rig = Rig::new().await;
    let content = bytes(100_000);
    let muid = rig.upload(rig::order(), file_form(&content)).await.unwrap().muid;
    let damages: [fn(&std::path::Path); 2] =
        [|path| std::fs::remove_file(path).unwrap(), |path| std::fs::write(path, b"cut").unwrap()];
    for damage in damages {
        damage(&rig.files()[0]);
        rig.upload(rig::order(), file_form(&content)).await.unwrap();
        assert!(stored_bytes(&rig, muid).await == content);
        rig.has_only(1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_at_once_a_single_use_token_stores_one() {
    let rig = Rig::new().await;
    let paid = rig::paid(1);
    let uploads = (0..100_u32).map(|i| {
        let order = UploadOrder { paid: Some(paid.clone()), ..rig::order() };
        let content = [bytes(300_000), i.to_be_bytes().to_vec()].concat();
        rig.upload(order, file_form(&content))
    });
    let results = futures_util::future::join_all(uploads).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for error in results.into_iter().filter_map(Result::err) {
        use UploadError::{TooManyRetries, UploadInProgress, UsedUp};
        assert!(matches!(error, UploadInProgress | UsedUp | TooManyRetries { .. }), "{error:?}");
    }
    rig.has_only(1).await;
    let again = rig.upload(UploadOrder { paid: Some(paid), ..rig::order() }, file_form(b"again")).await;
    assert!(matches!(again, Err(UploadError::UsedUp)), "{again:?}");
}

#[tokio::test]
async fn the_store_hears_how_long_a_copy_can_be() {
    let said = Arc::new(std::sync::Mutex::new(Vec::new()));
    for (sealing_key, longest) in [(None, 100 << 30), (Some(rig::sealing_key()), dare::sealed_len(100 << 30))] {
        let heard = Arc::clone(&said);
        let ask = move |step| {
            if let Step::Create(longest) = step {
                heard.lock().unwrap().push(longest);
            }
            std::future::ready(Ok(()))
        };
        let is_sealed = sealing_key.is_some();
        let rig = Rig::build(|db, inner| Uploads::new(db, Arc::new(Stepped { inner, ask }), sealing_key)).await;
        let order = UploadOrder { max_upload_bytes: 100 << 30, ..rig::order() };
        let form = file_form(&bytes(1_000_000));
        let declared = form.len() as u64;
        rig.upload(order.clone(), form.clone()).await.unwrap();
        let undeclared = Body::from_stream(futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from(form))]));
        rig.uploads.receive(order, Some(rig::CONTENT_TYPE), undeclared).await.unwrap();
        let declared = if is_sealed { dare::sealed_len(declared) } else { declared };
        assert_eq!(mem::take(&mut *said.lock().unwrap()), [declared, longest]);
    }
}
