"""What the SDK does, and what it is told when it errs.

`all` runs every check in a bucket of its own. `leave` stores objects and `find` looks for them, so that
the caller can restart the servers between the two. Endpoint and credentials come from the environment.
"""

import concurrent.futures
import datetime
import hashlib
import io
import os
import sys
import urllib.error
import urllib.request
import uuid

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

MIB = 1 << 20
ENDPOINT = os.environ["AWS_ENDPOINT_URL"]
# A retry would hide a 500, so there is none.
CONFIG = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})


def client(**changes):
    config = changes.pop("config", None)
    return boto3.client("s3", config=CONFIG.merge(config) if config else CONFIG, **changes)


S3 = client()


def refused(code, status, call, **arguments):
    """The call must fail with this S3 code and HTTP status."""
    try:
        call(**arguments)
    except ClientError as error:
        got = (error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"])
        assert got == (code, status), f"expected {(code, status)}, got {got}: {error}"
        return error
    raise AssertionError(f"expected {code}, but the call succeeded: {str(arguments)[:200]}")


def equal(got, expected):
    assert got == expected, f"expected {expected!r}, got {got!r}"


def put(bucket, key, body=b"x", **arguments):
    return S3.put_object(Bucket=bucket, Key=key, Body=body, **arguments)


def read(bucket, key, **arguments):
    return S3.get_object(Bucket=bucket, Key=key, **arguments)["Body"].read()


def keys_of(page):
    return [entry["Key"] for entry in page.get("Contents", [])]


# --- one function a theme; each is given a fresh bucket -------------------------------------------------


def buckets(bucket):
    assert bucket in [b["Name"] for b in S3.list_buckets()["Buckets"]]
    S3.head_bucket(Bucket=bucket)
    S3.create_bucket(Bucket=bucket)  # one's own again: fine in us-east-1
    put(bucket, "k")
    refused("BucketNotEmpty", 409, S3.delete_bucket, Bucket=bucket)
    S3.delete_object(Bucket=bucket, Key="k")
    absent = f"absent-{uuid.uuid4()}"
    refused("NoSuchBucket", 404, S3.put_object, Bucket=absent, Key="k", Body=b"")
    refused("NoSuchBucket", 404, S3.list_objects_v2, Bucket=absent)
    refused("NoSuchBucket", 404, S3.delete_bucket, Bucket=absent)
    refused("404", 404, S3.head_bucket, Bucket=absent)
    # boto3 would rather not send such a name, so its own check is left out.
    refused("InvalidBucketName", 400, client().create_bucket, Bucket="192.168.5.4")


def objects(bucket):
    body = os.urandom(100_000)
    stored = put(bucket, "a/b c+d%e/ü", body, ContentType="text/x-test", Metadata={"colour": "green"},
                 CacheControl="max-age=5", ContentEncoding="identity", ContentDisposition="inline")
    equal(stored["ETag"], f'"{hashlib.md5(body).hexdigest()}"')
    head = S3.head_object(Bucket=bucket, Key="a/b c+d%e/ü")
    equal((head["ContentLength"], head["ContentType"], head["Metadata"], head["CacheControl"]),
          (len(body), "text/x-test", {"colour": "green"}, "max-age=5"))
    age = datetime.datetime.now(datetime.timezone.utc) - head["LastModified"]
    assert abs(age) < datetime.timedelta(minutes=1), f"modified {age} ago"
    equal(read(bucket, "a/b c+d%e/ü"), body)
    equal(read(bucket, "a/b c+d%e/ü", Range="bytes=10-19"), body[10:20])
    equal(read(bucket, "a/b c+d%e/ü", Range="bytes=-7"), body[-7:])
    equal(read(bucket, "a/b c+d%e/ü", Range="bytes=99999-200000"), body[99999:])
    refused("InvalidRange", 416, S3.get_object, Bucket=bucket, Key="a/b c+d%e/ü", Range="bytes=100000-")
    put(bucket, "empty", b"")
    equal(read(bucket, "empty"), b"")
    put(bucket, "a/b c+d%e/ü", b"newer")
    equal(read(bucket, "a/b c+d%e/ü"), b"newer")
    S3.delete_object(Bucket=bucket, Key="a/b c+d%e/ü")
    refused("NoSuchKey", 404, S3.get_object, Bucket=bucket, Key="a/b c+d%e/ü")
    refused("404", 404, S3.head_object, Bucket=bucket, Key="a/b c+d%e/ü")
    equal(S3.delete_object(Bucket=bucket, Key="never")["ResponseMetadata"]["HTTPStatusCode"], 204)
    put(bucket, "k" * 1024)
    refused("KeyTooLongError", 400, S3.put_object, Bucket=bucket, Key="k" * 1025, Body=b"")
    refused("MetadataTooLarge", 400, S3.put_object, Bucket=bucket, Key="m", Body=b"", Metadata={"m": "v" * 2049})


def sizes(bucket):
    """Around every border: nothing, the inline limit, one chunk, two."""
    for size in (1, 16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, MIB - 1, MIB, MIB + 1, 3 * MIB + 17):
        body = os.urandom(size)
        put(bucket, f"size-{size}", body)
        assert read(bucket, f"size-{size}") == body, f"{size} bytes came back different"
        middle = f"bytes={size // 2}-{size // 2 + 99}"
        assert read(bucket, f"size-{size}", Range=middle) == body[size // 2:size // 2 + 100], f"range of {size}"


def lists(bucket):
    names = sorted([f"dir/{n:03}" for n in range(60)] + ["dir", "dir-", "z", "a b", "ü", "x+y", "x%y", "x y/1"],
                   key=lambda name: name.encode())
    for name in names:
        put(bucket, name)
    equal(keys_of(S3.list_objects_v2(Bucket=bucket)), names)
    equal(keys_of(S3.list_objects(Bucket=bucket)), names)
    for verb in ("list_objects_v2", "list_objects"):
        pages = S3.get_paginator(verb).paginate(Bucket=bucket, PaginationConfig={"PageSize": 7})
        equal([key for page in pages for key in keys_of(page)], names)
    page = S3.list_objects_v2(Bucket=bucket, Delimiter="/")
    equal([prefix["Prefix"] for prefix in page["CommonPrefixes"]], ["dir/", "x y/"])
    equal(keys_of(page), [name for name in names if "/" not in name])
    equal(page["KeyCount"], len(keys_of(page)) + 2)
    equal(keys_of(S3.list_objects_v2(Bucket=bucket, Prefix="dir/05")), [f"dir/05{n}" for n in range(10)])
    equal(keys_of(S3.list_objects_v2(Bucket=bucket, StartAfter="dir/057", Prefix="dir/")), ["dir/058", "dir/059"])
    nothing = S3.list_objects_v2(Bucket=bucket, MaxKeys=0)
    equal((nothing["KeyCount"], nothing["IsTruncated"]), (0, False))
    deleted = S3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": name} for name in names]})
    equal(sorted(entry["Key"] for entry in deleted["Deleted"]), sorted(names))
    equal(keys_of(S3.list_objects_v2(Bucket=bucket)), [])


def conditions(bucket):
    first = put(bucket, "k", b"1", IfNoneMatch="*")["ETag"]
    refused("PreconditionFailed", 412, S3.put_object, Bucket=bucket, Key="k", Body=b"2", IfNoneMatch="*")
    second = put(bucket, "k", b"2", IfMatch=first)["ETag"]
    refused("PreconditionFailed", 412, S3.put_object, Bucket=bucket, Key="k", Body=b"3", IfMatch=first)
    refused("NoSuchKey", 404, S3.put_object, Bucket=bucket, Key="absent", Body=b"3", IfMatch=first)
    equal(read(bucket, "k"), b"2")
    equal(read(bucket, "k", IfMatch=second), b"2")
    refused("PreconditionFailed", 412, S3.get_object, Bucket=bucket, Key="k", IfMatch=first)
    refused("304", 304, S3.get_object, Bucket=bucket, Key="k", IfNoneMatch=second)
    refused("PreconditionFailed", 412, S3.delete_object, Bucket=bucket, Key="k", IfMatch=first)
    S3.delete_object(Bucket=bucket, Key="k", IfMatch=second)

    def race(number):
        try:
            put(bucket, "race", str(number).encode(), IfNoneMatch="*")
            return number
        except ClientError as error:
            code = error.response["Error"]["Code"]
            assert code in ("PreconditionFailed", "ConditionalRequestConflict"), code
            return None

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        winners = [number for number in pool.map(race, range(8)) if number is not None]
    equal(len(winners), 1)
    equal(read(bucket, "race"), str(winners[0]).encode())


def multipart(bucket):
    parts = [os.urandom(5 * MIB), os.urandom(5 * MIB + 1), os.urandom(77)]
    upload = S3.create_multipart_upload(Bucket=bucket, Key="m", Metadata={"a": "b"}, ContentType="x/y")["UploadId"]
    named = dict(Bucket=bucket, Key="m", UploadId=upload)
    etags = [S3.upload_part(PartNumber=n + 1, Body=part, **named)["ETag"] for n, part in enumerate(parts)]
    etags[1] = S3.upload_part(PartNumber=2, Body=parts[1], **named)["ETag"]  # again: the last one counts
    equal([part["PartNumber"] for part in S3.list_parts(**named)["Parts"]], [1, 2, 3])
    assert upload in [u["UploadId"] for u in S3.list_multipart_uploads(Bucket=bucket)["Uploads"]]
    refused("NoSuchKey", 404, S3.get_object, Bucket=bucket, Key="m")
    whole = [{"PartNumber": n + 1, "ETag": etag} for n, etag in enumerate(etags)]
    wrong = [dict(whole[0], ETag='"00000000000000000000000000000000"')] + whole[1:]
    refused("InvalidPart", 400, S3.complete_multipart_upload, MultipartUpload={"Parts": wrong}, **named)
    backwards = {"Parts": [whole[1], whole[0], whole[2]]}
    refused("InvalidPartOrder", 400, S3.complete_multipart_upload, MultipartUpload=backwards, **named)
    done = S3.complete_multipart_upload(MultipartUpload={"Parts": whole}, **named)
    digests = b"".join(hashlib.md5(part).digest() for part in parts)
    equal(done["ETag"], f'"{hashlib.md5(digests).hexdigest()}-3"')
    equal(S3.complete_multipart_upload(MultipartUpload={"Parts": whole}, **named)["ETag"], done["ETag"])
    body = b"".join(parts)
    assert read(bucket, "m") == body, "the object is its parts"
    border = f"bytes={5 * MIB - 3}-{5 * MIB + 2}"
    equal(read(bucket, "m", Range=border), body[5 * MIB - 3:5 * MIB + 3])
    equal(S3.head_object(Bucket=bucket, Key="m")["Metadata"], {"a": "b"})

    small = S3.create_multipart_upload(Bucket=bucket, Key="s")["UploadId"]
    named = dict(Bucket=bucket, Key="s", UploadId=small)
    etags = [S3.upload_part(PartNumber=n, Body=b"small", **named)["ETag"] for n in (1, 2)]
    parts = {"Parts": [{"PartNumber": n + 1, "ETag": etag} for n, etag in enumerate(etags)]}
    refused("EntityTooSmall", 400, S3.complete_multipart_upload, MultipartUpload=parts, **named)
    S3.abort_multipart_upload(**named)
    refused("NoSuchUpload", 404, S3.upload_part, PartNumber=1, Body=b"late", **named)
    assert "Uploads" not in S3.list_multipart_uploads(Bucket=bucket), "no upload is left"

    # The high-level interface, with several parts under way at once, both ways.
    body = os.urandom(40 * MIB + 3)
    transfer = TransferConfig(multipart_threshold=8 * MIB, multipart_chunksize=8 * MIB, max_concurrency=10)
    S3.upload_fileobj(io.BytesIO(body), bucket, "file", Config=transfer)
    back = io.BytesIO()
    S3.download_fileobj(bucket, "file", back, Config=transfer)
    assert back.getvalue() == body, "40 MiB in parallel parts came back different"


def copies(bucket):
    body = os.urandom(2 * MIB)
    etag = put(bucket, "from", body, Metadata={"a": "1"}, ContentType="x/y")["ETag"]
    source = {"Bucket": bucket, "Key": "from"}
    S3.copy_object(Bucket=bucket, Key="to", CopySource=source)
    equal((read(bucket, "to"), S3.head_object(Bucket=bucket, Key="to")["Metadata"]), (body, {"a": "1"}))
    S3.copy_object(Bucket=bucket, Key="to", CopySource=source, MetadataDirective="REPLACE", Metadata={"a": "2"})
    equal(S3.head_object(Bucket=bucket, Key="to")["Metadata"], {"a": "2"})
    S3.copy_object(Bucket=bucket, Key="to", CopySource=source, CopySourceIfMatch=etag)
    refused("PreconditionFailed", 412, S3.copy_object, Bucket=bucket, Key="to", CopySource=source,
            CopySourceIfNoneMatch=etag)
    refused("InvalidRequest", 400, S3.copy_object, Bucket=bucket, Key="from", CopySource=source)
    refused("NoSuchKey", 404, S3.copy_object, Bucket=bucket, Key="to", CopySource=dict(source, Key="absent"))
    upload = dict(Bucket=bucket, Key="m", UploadId=S3.create_multipart_upload(Bucket=bucket, Key="m")["UploadId"])
    part = S3.upload_part_copy(PartNumber=1, CopySource=source, CopySourceRange="bytes=5-104", **upload)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["CopyPartResult"]["ETag"]}]}
    S3.complete_multipart_upload(MultipartUpload=parts, **upload)
    equal(read(bucket, "m"), body[5:105])


def checksums(bucket):
    for algorithm in ("CRC32", "SHA1", "SHA256"):
        stored = put(bucket, algorithm, b"summed", ChecksumAlgorithm=algorithm)
        field = f"Checksum{algorithm}"
        head = S3.head_object(Bucket=bucket, Key=algorithm, ChecksumMode="ENABLED")
        assert stored[field], f"{field} is answered"
        equal(head[field], stored[field])
        equal(read(bucket, algorithm, ChecksumMode="ENABLED"), b"summed")
    refused("BadDigest", 400, S3.put_object, Bucket=bucket, Key="bad", Body=b"x", ContentMD5="AAAAAAAAAAAAAAAAAAAAAA==")
    refused("InvalidDigest", 400, S3.put_object, Bucket=bucket, Key="bad", Body=b"x", ContentMD5="short")
    refused("BadDigest", 400, S3.put_object, Bucket=bucket, Key="bad", Body=b"x", ChecksumCRC32="AAAAAA==")
    refused("404", 404, S3.head_object, Bucket=bucket, Key="bad")


def presigned(bucket):
    # By itself boto3 still signs links in the way of 2006, which no store has to take any more.
    signer = client(config=Config(signature_version="s3v4"))
    put_url = signer.generate_presigned_url("put_object", {"Bucket": bucket, "Key": "p"}, ExpiresIn=60)
    upload = urllib.request.Request(put_url, b"by url", {"Content-Type": "text/plain"}, method="PUT")
    urllib.request.urlopen(upload).close()
    get_url = signer.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "p"}, ExpiresIn=60)
    with urllib.request.urlopen(get_url) as answer:
        equal(answer.read(), b"by url")
    for url, status, code in (
        (get_url + "0", 403, b"SignatureDoesNotMatch"),
        (f"{ENDPOINT}/{bucket}/p", 403, b"AccessDenied"),
        (signer.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "p"}, ExpiresIn=604_801), 400,
         b"AuthorizationQueryParametersError"),
    ):
        try:
            urllib.request.urlopen(url).close()
            raise AssertionError(f"expected {status} {code}")
        except urllib.error.HTTPError as error:
            with error:
                body = error.read()
            assert error.code == status and code in body, f"expected {status} {code}, got {error.code} {body}"


def strangers(bucket):
    wrong_key = client(aws_access_key_id="AKIANOBODYKNOWSTHIS0", aws_secret_access_key="x" * 40)
    refused("InvalidAccessKeyId", 403, wrong_key.list_objects_v2, Bucket=bucket)
    known = os.environ["AWS_ACCESS_KEY_ID"]
    wrong_secret = client(aws_access_key_id=known, aws_secret_access_key="x" * 40)
    refused("SignatureDoesNotMatch", 403, wrong_secret.put_object, Bucket=bucket, Key="k", Body=b"x")
    equal(keys_of(S3.list_objects_v2(Bucket=bucket)), [])


def not_there_yet(bucket):
    """What is not implemented says so; what was never configured says that."""
    refused("NotImplemented", 501, S3.put_bucket_versioning, Bucket=bucket,
            VersioningConfiguration={"Status": "Enabled"})
    refused("NotImplemented", 501, S3.put_bucket_policy, Bucket=bucket, Policy="{}")
    refused("NotImplemented", 501, S3.select_object_content, Bucket=bucket, Key="k", Expression="select 1",
            ExpressionType="SQL", InputSerialization={"CSV": {}}, OutputSerialization={"CSV": {}})
    assert "Status" not in S3.get_bucket_versioning(Bucket=bucket)
    refused("NoSuchBucketPolicy", 404, S3.get_bucket_policy, Bucket=bucket)
    refused("NoSuchCORSConfiguration", 404, S3.get_bucket_cors, Bucket=bucket)
    refused("NoSuchLifecycleConfiguration", 404, S3.get_bucket_lifecycle_configuration, Bucket=bucket)
    refused("NoSuchTagSet", 404, S3.get_bucket_tagging, Bucket=bucket)


CHECKS = [buckets, objects, sizes, lists, conditions, multipart, copies, checksums, presigned, strangers,
          not_there_yet]


def empty(bucket):
    for upload in S3.list_multipart_uploads(Bucket=bucket).get("Uploads", []):
        S3.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    for page in S3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for key in keys_of(page):
            S3.delete_object(Bucket=bucket, Key=key)
    S3.delete_bucket(Bucket=bucket)


def run_all():
    failed = []
    for check in CHECKS:
        bucket = f"check-{check.__name__.replace('_', '-')}"
        S3.create_bucket(Bucket=bucket)
        try:
            check(bucket)
            empty(bucket)
            print(f"  ok      {check.__name__}", flush=True)
        except (AssertionError, ClientError) as error:
            failed.append(check.__name__)
            print(f"  FAILED  {check.__name__}: {error}", flush=True)
    return failed


LEFT = {"small": b"kept", "chunked": bytes(range(256)) * 4096 * 3}


def leave():
    S3.create_bucket(Bucket="kept")
    for key, body in LEFT.items():
        put("kept", key, body)


def find():
    for key, body in LEFT.items():
        assert read("kept", key) == body, f"{key} is not what was stored before the restart"
    empty("kept")


def main():
    verb = sys.argv[1] if len(sys.argv) == 2 else None
    if verb == "all":
        failed = run_all()
        if failed:
            sys.exit(f"failed: {', '.join(failed)}")
    elif verb in ("leave", "find"):
        {"leave": leave, "find": find}[verb]()
        print(f"  ok      {verb}")
    else:
        sys.exit("usage: boto3_session.py all | leave | find")


if __name__ == "__main__":
    main()
