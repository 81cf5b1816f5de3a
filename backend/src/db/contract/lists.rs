//! What owners have, page by page, and what they change of it.

use super::fixture::{Server, at, finished, muid, owner};
use crate::db::{Cursor, Database, Listing, Media, MediaChange, Owner, Page};

fn keys(media: &[Media]) -> Vec<(u8, Owner)> {
    media.iter().map(|media| (media.muid.as_bytes()[0], media.owner.clone())).collect()
}

/// Every page of a list, one after the other.
async fn walk<F: Future<Output = Listing>>(limit: u32, mut ask: impl FnMut(Page) -> F) -> Vec<(u8, Owner)> {
    let (mut rows, mut after) = (vec![], None::<Cursor>);
    loop {
        let listing = ask(Page { limit: Some(limit), after }).await;
        rows.extend(keys(&listing.media));
        // As a client sends it.
        after = listing.next.map(|next| next.to_string().parse().unwrap());
        if after.is_none() {
            return rows;
        }
        assert_eq!(listing.media.len() as u32, limit);
    }
}

pub(crate) async fn pages_lose_and_repeat_nothing(db: &dyn Database) {
    let server = Server::new(db);
    // Many of one moment, some of two owners.
    for (n, who, secs) in
        [(1, 1, 0), (2, 1, 0), (3, 2, 0), (2, 2, 0), (9, 3, 0), (4, 1, 10), (5, 2, 20), (0xfb, 1, 20), (0xff, 1, 20)]
    {
        server.upload(n, who, None, secs).await;
    }
    let owners = [owner(1), owner(2), owner(1)];
    let all = db.owned(&owners, &Page::default(), at(30)).await.unwrap();
    assert_eq!((all.media.len(), all.next), (8, None));
    assert!(all.media.is_sorted_by(|a, b| a.created >= b.created));
    for limit in 1..=9 {
        let ask = async |page: Page| db.owned(&owners, &page, at(30)).await.unwrap();
        assert_eq!(walk(limit, ask).await, keys(&all.media), "{limit}");
    }
    // Rows that come and go in between.
    let first = db.owned(&owners, &Page { limit: Some(2), after: None }, at(30)).await.unwrap();
    server.upload(6, 1, None, 30).await;
    let gone = &first.media[1];
    assert!(db.delete_media(gone.muid, &gone.owner).await.unwrap());
    let rest = db.owned(&owners, &Page { limit: None, after: first.next }, at(30)).await.unwrap();
    assert_eq!(keys(&rest.media), keys(&all.media)[2..]);
}

pub(crate) async fn lists_templates(db: &dyn Database) {
    let server = Server::new(db);
    for (n, who, template, expiry) in [
        (1, 1, true, None),
        (2, 1, false, None),
        (3, 2, true, Some(at(31))),
        (4, 2, true, Some(at(30))),
        (1, 3, true, None),
    ] {
        let (content, _) = server.begin(None, 0).await.unwrap();
        let mut end = finished(content, muid(n), owner(who));
        (end.media.template, end.media.expiry) = (template, expiry);
        end.media.dimensions = template.then_some((320, u32::MAX));
        let media = server.commit(&end, n.into()).await.unwrap();
        assert_eq!(media.template, template);
        let dimensions = template.then_some((320, i64::from(u32::MAX)));
        assert_eq!(
            (media.width, media.height),
            (dimensions.map(|(width, _)| width), dimensions.map(|(_, height)| height))
        );
    }
    let all = db.templates(&Page::default(), at(30)).await.unwrap();
    assert_eq!(keys(&all.media), [(3, owner(2)), (1, owner(3)), (1, owner(1))]);
    for limit in 1..=4 {
        let ask = async |page: Page| db.templates(&page, at(30)).await.unwrap();
        assert_eq!(walk(limit, ask).await, keys(&all.media), "{limit}");
    }
}

pub(crate) async fn of_a_content_one_row_is_the_template(db: &dyn Database) {
    let server = Server::new(db);
    let upload = async |who, template, dimensions, expiry| {
        let (content, _) = server.begin(None, 0).await.unwrap();
        let mut end = finished(content, muid(1), owner(who));
        (end.media.template, end.media.dimensions, end.media.expiry) = (template, dimensions, expiry);
        server.commit(&end, who.into()).await.unwrap();
        db.template(muid(1), at(20)).await.unwrap().map(|media| media.owner)
    };
    assert_eq!(upload(1, false, None, None).await, None);
    assert_eq!(upload(2, true, Some((3, 4)), Some(at(20))).await, Some(owner(2)));
    assert_eq!(upload(3, false, Some((3, 4)), None).await, Some(owner(3)), "the other one is over");
    assert_eq!(upload(4, true, Some((3, 4)), None).await, Some(owner(4)));
    assert_eq!(upload(5, true, Some((3, 4)), None).await, Some(owner(4)));
    assert_eq!(db.template(muid(2), at(20)).await.unwrap(), None);
}

pub(crate) async fn a_template_stays_one(db: &dyn Database) {
    let server = Server::new(db);
    for (template, dimensions, measured) in
        [(true, Some((3, 4)), (3, 4)), (false, None, (3, 4)), (false, Some((5, 6)), (5, 6))]
    {
        let (content, _) = server.begin(None, 0).await.unwrap();
        let mut end = finished(content, muid(1), owner(1));
        (end.media.template, end.media.dimensions) = (template, dimensions);
        let media = server.commit(&end, 0).await.unwrap();
        assert!(media.template);
        assert_eq!((media.width, media.height), (Some(measured.0), Some(measured.1)));
    }
}

pub(crate) async fn counts_purchases(db: &dyn Database) {
    let server = Server::new(db);
    server.upload(1, 1, None, 0).await;
    server.upload(1, 2, None, 0).await;
    let before = server.owned(1, 1).await.unwrap();
    for buys in 1..=3 {
        let media = db.purchase(muid(1), &owner(1), at(10)).await.unwrap().unwrap();
        assert_eq!(media, Media { total_buys: buys, total_sats: 21 * buys, ..before.clone() });
        assert_eq!(server.owned(1, 1).await, Some(media));
    }
    assert_eq!(server.owned(1, 2).await.unwrap().total_buys, 0);
    assert_eq!(db.purchase(muid(1), &owner(3), at(10)).await.unwrap(), None);
    assert_eq!(db.purchase(muid(2), &owner(1), at(10)).await.unwrap(), None);

    // No sum is too large to be noted.
    let dear = MediaChange { price_sat: Some(i64::MAX), ..MediaChange::default() };
    db.change_media(muid(1), &owner(1), &dear, at(20)).await.unwrap().unwrap();
    for _ in 0..2 {
        let media = db.purchase(muid(1), &owner(1), at(20)).await.unwrap().unwrap();
        assert_eq!(media.total_sats, i64::MAX);
    }

    // sphinx-meme took prices below nothing.
    for price_sat in [-5, i64::MIN] {
        let change = MediaChange { price_sat: Some(price_sat), ..MediaChange::default() };
        let before = db.change_media(muid(1), &owner(2), &change, at(20)).await.unwrap().unwrap();
        let media = db.purchase(muid(1), &owner(2), at(20)).await.unwrap().unwrap();
        assert_eq!(media, Media { total_buys: before.total_buys + 1, ..before });
    }
}

pub(crate) async fn an_owner_changes_what_it_says(db: &dyn Database) {
    let server = Server::new(db);
    server.upload(1, 1, None, 0).await;
    server.upload(1, 2, None, 0).await;
    let before = server.owned(1, 1).await.unwrap();
    let nothing = db.change_media(muid(1), &owner(1), &MediaChange::default(), at(5)).await.unwrap().unwrap();
    assert_eq!(nothing, Media { updated: at(5), ..before.clone() });
    let change = MediaChange {
        name: Some("'); DROP TABLE media; --".to_owned()),
        description: Some(String::new()),
        price_sat: Some(0),
        tags: Some(vec![]),
        ttl_secs: Some(1),
        public: Some(true),
    };
    let changed = db.change_media(muid(1), &owner(1), &change, at(10)).await.unwrap().unwrap();
    let expected = Media {
        name: "'); DROP TABLE media; --".to_owned(),
        description: String::new(),
        price_sat: 0,
        tags: vec![],
        ttl_secs: 1,
        public: true,
        updated: at(10),
        ..before.clone()
    };
    assert_eq!(changed, expected);
    assert_eq!(server.owned(1, 1).await, Some(changed));
    assert_eq!(server.owned(1, 2).await.unwrap().name, before.name);
    assert_eq!(db.change_media(muid(1), &owner(3), &change, at(10)).await.unwrap(), None);
    assert_eq!(db.change_media(muid(2), &owner(1), &change, at(10)).await.unwrap(), None);
}
