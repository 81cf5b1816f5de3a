//! Lists as they are sent: a part of one, or all of it, which is read part by part while it is sent.

use axum::{
    Json,
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use http::{
    HeaderValue,
    header::{CONTENT_TYPE, LINK},
};

use super::{MediaJson, PageQuery};
use crate::{
    db::{DbError, Listing, Media, Page},
    error::ApiError,
};

/// The rows that are in memory at once of a list that is sent whole.
const ROWS_AT_ONCE: u32 = 100;

impl PageQuery {
    /// The part that is asked for, or all of the list, whose parts `read` gives.
    pub async fn list<R>(
        self,
        read: impl Fn(Page) -> R + Send + 'static,
        row: impl Fn(Media) -> MediaJson + Send + 'static,
    ) -> Result<Response, ApiError>
    where
        R: Future<Output = Result<Listing, DbError>> + Send + 'static,
    {
        if self.page.limit.is_some() {
            let listing = read(self.page.clone()).await?;
            return Ok(self.answer(listing, row));
        }
        let part = |after| Page { limit: Some(ROWS_AT_ONCE), after };
        let first = read(part(self.page.after.clone())).await?;
        if first.next.is_none() {
            return Ok(self.answer(first, row));
        }
        let parts = stream::try_unfold((Some(first), true), move |(listing, is_first)| {
            let following = listing.as_ref().and_then(|listing| listing.next.clone());
            let following = following.map(|after| read(part(Some(after))));
            let piece = listing.map(|Listing { media, next }| {
                piece(&media.into_iter().map(&row).collect::<Vec<_>>(), is_first, next.is_none())
            });
            async move {
                let Some(piece) = piece else { return Ok(None) };
                let following = match following {
                    Some(following) => Some(following.await.inspect_err(|error| {
                        tracing::error!(error = error as &dyn std::error::Error, "a list broke off");
                    })?),
                    None => None,
                };
                Ok::<_, DbError>(Some((piece, (following, false))))
            }
        });
        Ok(([(CONTENT_TYPE, "application/json")], Body::from_stream(parts)).into_response())
    }

    /// An array of the rows, and in `Link` (RFC 8288) where the next part is, if there is one and parts were asked for.
    pub fn answer(self, listing: Listing, row: impl Fn(Media) -> MediaJson) -> Response {
        let mut response = Json(listing.media.into_iter().map(row).collect::<Vec<_>>()).into_response();
        if let (Some(limit), Some(next)) = (self.page.limit, listing.next) {
            let link = format!("<{}?limit={limit}&after={next}>; rel=\"next\"", self.path);
            response.headers_mut().extend(HeaderValue::try_from(link).ok().map(|link| (LINK, link)));
        }
        response
    }
}

/// A piece of a JSON array.
fn piece(rows: &[MediaJson], is_first: bool, is_last: bool) -> Bytes {
    // Texts and numbers always serialise.
    let mut piece = serde_json::to_vec(rows).unwrap_or_default();
    // A comma in the place of the bracket that begins it, unless there is nothing to part.
    if !is_first && rows.is_empty() {
        piece.clear();
    } else {
        if !is_first {
            piece[0] = b',';
        }
        piece.pop();
    }
    if is_last {
        piece.push(b']');
    }
    piece.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::media_json::tests::media;

    #[test]
    fn pieces_make_one_array() {
        let rows = |count: usize| vec![MediaJson::from(media()); count];
        for counts in [&[1, 0][..], &[2, 3], &[1, 1, 0], &[3, 0, 2]] {
            let last = counts.len() - 1;
            let pieces = counts.iter().enumerate().map(|(at, &count)| piece(&rows(count), at == 0, at == last));
            let array = pieces.collect::<Vec<_>>().concat();
            let whole = serde_json::to_vec(&rows(counts.iter().sum())).unwrap();
            assert_eq!(String::from_utf8(array), String::from_utf8(whole), "{counts:?}");
        }
    }
}
