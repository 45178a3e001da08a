//! What the crate `object_store` does with a store: the operations that lake formats are built from.

use crate::store::{self, Access};
use crate::{Result, content};
use futures_util::TryStreamExt;
use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::{
    Error, GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion,
};
use std::time::Duration;

const BUCKET: &str = "object-store-session";

pub(crate) async fn run() -> Result {
    let variable = |name: &str| std::env::var(name).map_err(|_| format!("{name} is not set"));
    let access = Access {
        access_key: variable("AWS_ACCESS_KEY_ID")?,
        secret_key: variable("AWS_SECRET_ACCESS_KEY")?,
        region: variable("AWS_REGION")?,
    };
    let endpoint = variable("AWS_ENDPOINT_URL")?;
    let client = store::client(&access, &endpoint, BUCKET, Duration::from_secs(60))?;
    store::create_bucket(&client).await?;
    round_trips(&client).await.map_err(|error| format!("round trips: {error}"))?;
    conditions(&client).await.map_err(|error| format!("conditions: {error}"))?;
    multipart(&client).await.map_err(|error| format!("multipart: {error}"))?;
    lists(&client).await.map_err(|error| format!("lists: {error}"))?;
    println!("  ok      object_store: round trips, conditions, multipart, lists");
    Ok(())
}

fn expect(holds: bool, what: impl FnOnce() -> String) -> Result {
    if holds { Ok(()) } else { Err(what()) }
}

fn text(error: Error) -> String {
    error.to_string()
}

async fn round_trips(client: &AmazonS3) -> Result {
    for size in [0, 1, 16 << 10, (16 << 10) + 1, (1 << 20) + 1, 5 << 20] {
        let path = Path::from(format!("round/{size}"));
        let body = content::piece("round", 0, size);
        client.put(&path, body.clone().into()).await.map_err(text)?;
        let back = client.get(&path).await.map_err(text)?.bytes().await.map_err(text)?;
        expect(back == body, || format!("{size} bytes came back different"))?;
        let head = client.head(&path).await.map_err(text)?;
        expect(head.size == size, || format!("{} instead of {size} bytes", head.size))?;
        if size > 100 {
            let ranges = [0..10, size / 2..size / 2 + 50, size - 10..size];
            let pieces = client.get_ranges(&path, &ranges).await.map_err(text)?;
            for (range, piece) in ranges.iter().zip(pieces) {
                let wanted = body.slice(range.start as usize..range.end as usize);
                expect(piece == wanted, || format!("range {range:?} of {size} bytes"))?;
            }
        }
    }
    let copy = Path::from("round/copy");
    client.copy(&Path::from("round/5242880"), &copy).await.map_err(text)?;
    let back = client.get(&copy).await.map_err(text)?.bytes().await.map_err(text)?;
    expect(back == content::piece("round", 0, 5 << 20), || "a copy is different".into())?;
    client.delete(&copy).await.map_err(text)?;
    let gone = client.get(&copy).await.err();
    expect(matches!(gone, Some(Error::NotFound { .. })), || format!("after delete: {gone:?}"))
}

/// What delta-rs, Lance and SlateDB commit with: a name that only one of them can take, and a version
/// that only one of them can replace.
async fn conditions(client: &AmazonS3) -> Result {
    let path = Path::from("log/00000000000000000001.json");
    let put = |body: &'static str, mode: PutMode| {
        client.put_opts(&path, PutPayload::from_static(body.as_bytes()), PutOptions::from(mode))
    };
    let first = put("first", PutMode::Create).await.map_err(text)?;
    let second = put("second", PutMode::Create).await.err();
    let refused = matches!(second, Some(Error::AlreadyExists { .. }));
    expect(refused, || format!("a second create: {second:?}"))?;
    let version = UpdateVersion { e_tag: first.e_tag.clone(), version: None };
    put("third", PutMode::Update(version.clone())).await.map_err(text)?;
    let stale = put("fourth", PutMode::Update(version)).await.err();
    let refused = matches!(stale, Some(Error::Precondition { .. }));
    expect(refused, || format!("an update of an old version: {stale:?}"))?;
    let unmodified = GetOptions { if_none_match: first.e_tag, ..GetOptions::default() };
    let body = client.get_opts(&path, unmodified).await.map_err(text)?.bytes().await;
    expect(body.map_err(text)? == "third", || "another writer's bytes".into())?;

    let races = (0..8_u8).map(|number| async move {
        let path = Path::from("log/00000000000000000002.json");
        let options = PutOptions::from(PutMode::Create);
        client.put_opts(&path, vec![number].into(), options).await
    });
    let results = futures_util::future::join_all(races).await;
    let won = results.iter().filter(|result| result.is_ok()).count();
    expect(won == 1, || format!("{won} of eight creators won: {results:?}"))
}

async fn multipart(client: &AmazonS3) -> Result {
    let path = Path::from("multipart");
    let parts = [5 << 20, 5 << 20, 1_000_003_u64];
    let mut upload = client.put_multipart(&path).await.map_err(text)?;
    let mut offset = 0;
    for size in parts {
        let body = content::piece("multipart", offset, size);
        upload.put_part(body.into()).await.map_err(text)?;
        offset += size;
    }
    upload.complete().await.map_err(text)?;
    let back = client.get(&path).await.map_err(text)?.bytes().await.map_err(text)?;
    expect(back == content::piece("multipart", 0, offset), || "different bytes".into())?;

    let abandoned = Path::from("abandoned");
    let mut upload = client.put_multipart(&abandoned).await.map_err(text)?;
    upload.put_part(content::piece("abandoned", 0, 5 << 20).into()).await.map_err(text)?;
    upload.abort().await.map_err(text)?;
    let gone = client.head(&abandoned).await.err();
    expect(matches!(gone, Some(Error::NotFound { .. })), || format!("after abort: {gone:?}"))
}

async fn lists(client: &AmazonS3) -> Result {
    for number in 0..30 {
        let path = Path::from(format!("table/part={}/{number:02}", number % 3));
        client.put(&path, PutPayload::from_static(b"row")).await.map_err(text)?;
    }
    let table = Path::from("table");
    let found: Vec<_> = client.list(Some(&table)).try_collect().await.map_err(text)?;
    expect(found.len() == 30, || format!("{} of 30 objects listed", found.len()))?;
    let level = client.list_with_delimiter(Some(&table)).await.map_err(text)?;
    let prefixes: Vec<String> = level.common_prefixes.iter().map(Path::to_string).collect();
    let wanted = ["table/part=0", "table/part=1", "table/part=2"];
    expect(prefixes == wanted && level.objects.is_empty(), || format!("{prefixes:?}"))?;
    let after = client.list_with_offset(Some(&table), &Path::from("table/part=2"));
    let found: Vec<_> = after.try_collect().await.map_err(text)?;
    expect(found.len() == 10, || format!("{} of 10 objects behind the offset", found.len()))?;
    let all = client.list(None).map_ok(|meta| meta.location);
    let all: Vec<Path> = all.try_collect().await.map_err(text)?;
    let all = futures_util::stream::iter(all.into_iter().map(Ok));
    let deleted: Vec<Path> =
        client.delete_stream(Box::pin(all)).try_collect().await.map_err(text)?;
    let left: Vec<_> = client.list(None).try_collect().await.map_err(text)?;
    expect(left.is_empty(), || format!("{} left of {}", left.len(), deleted.len() + left.len()))
}
