"""A session with the stock `aws` command line and its defaults.

Endpoint and credentials come from the environment, as a person would set them. Every step checks what
the command printed or wrote, and stops at the first surprise.
"""

import argparse
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import time

BUCKET = "first-bucket"
KIB, MIB = 1 << 10, 1 << 20


def aws(*words, fails_with=None):
    """Runs `aws WORDS` and returns what it printed; `fails_with` is a word its error must have."""
    shown = "aws " + " ".join(str(word) for word in words)
    began = time.monotonic()
    # The command line installs itself as a script beside the interpreter; as a module it needs no PATH.
    done = subprocess.run([sys.executable, "-m", "awscli", *map(str, words)], capture_output=True, text=True)
    print(f"  {time.monotonic() - began:6.2f} s  {shown}", flush=True)
    if fails_with is not None:
        assert done.returncode != 0, f"{shown}: succeeded, expected {fails_with}"
        assert fails_with in done.stderr, f"{shown}: expected {fails_with}, got: {done.stderr}"
    else:
        assert done.returncode == 0, f"{shown}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def random_file(path, size):
    """Bytes that do not compress and are new in every run; returns their SHA-256."""
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        while size > 0:
            piece = os.urandom(min(size, MIB))
            file.write(piece)
            digest.update(piece)
            size -= len(piece)
    return digest.hexdigest()


def sha256_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listed(output):
    """The sizes by name of an `aws s3 ls`."""
    rows = [line.split(None, 3) for line in output.splitlines() if line.strip()]
    return {row[3]: int(row[2]) for row in rows if len(row) == 4}


def session(work, large_mib):
    sizes = {"small.bin": 5 * KIB, "middle.bin": 5 * MIB, "large.bin": large_mib * MIB, "empty.bin": 0}
    hashes = {name: random_file(work / name, size) for name, size in sizes.items()}

    aws("s3", "mb", f"s3://{BUCKET}")
    assert BUCKET in aws("s3", "ls"), "the new bucket is listed"
    for name in sizes:
        aws("s3", "cp", "--no-progress", work / name, f"s3://{BUCKET}/{name}")
    assert listed(aws("s3", "ls", f"s3://{BUCKET}/")) == sizes, "every file is listed with its size"

    for name, digest in hashes.items():
        back = work / f"back-{name}"
        aws("s3", "cp", "--no-progress", f"s3://{BUCKET}/{name}", back)
        assert sha256_of(back) == digest, f"{name} came back different"
        back.unlink()

    # A folder up, a copy within the store, and one that is larger than a part.
    tree = work / "tree"
    (tree / "a/b").mkdir(parents=True)
    for number in range(20):
        (tree / "a/b" / f"{number} with space+plus%.txt").write_text(f"file {number}\n")
    aws("s3", "sync", "--no-progress", tree, f"s3://{BUCKET}/tree/")
    assert len(listed(aws("s3", "ls", "--recursive", f"s3://{BUCKET}/tree/"))) == 20
    assert "PRE tree/" in aws("s3", "ls", f"s3://{BUCKET}/"), "a folder is a common prefix"
    aws("s3", "cp", "--no-progress", f"s3://{BUCKET}/middle.bin", f"s3://{BUCKET}/copies/middle.bin")
    aws("s3", "cp", "--no-progress", f"s3://{BUCKET}/copies/middle.bin", work / "copy")
    assert sha256_of(work / "copy") == hashes["middle.bin"], "a copy is equal"

    aws("s3", "rb", f"s3://{BUCKET}", fails_with="BucketNotEmpty")
    for name in sizes:
        aws("s3", "rm", f"s3://{BUCKET}/{name}")
    aws("s3", "rm", "--recursive", f"s3://{BUCKET}/")
    aws("s3", "cp", f"s3://{BUCKET}/small.bin", work / "gone", fails_with="404")
    assert aws("s3", "ls", "--recursive", f"s3://{BUCKET}/").strip() == "", "nothing is left"
    aws("s3", "rb", f"s3://{BUCKET}")
    assert BUCKET not in aws("s3", "ls"), "the bucket is gone"
    aws("s3", "ls", f"s3://{BUCKET}/", fails_with="NoSuchBucket")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=pathlib.Path, required=True, help="a folder to make and remove")
    parser.add_argument("--large-mib", type=int, default=1024)
    args = parser.parse_args()
    args.work.mkdir(parents=True)
    try:
        session(args.work, args.large_mib)
    finally:
        shutil.rmtree(args.work)


if __name__ == "__main__":
    main()
