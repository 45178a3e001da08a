//! What anything that keeps rows must do: the engines and the simulator's pass the same checks, so that what was proved on one holds on the
//! others. Durability is not in here: it only shows when power is lost, which the simulator does.

use bytes::Bytes;
use ironseed_core::machine::{IoDone, IoError, IoResult};
use ironseed_core::rows::{RowChange, RowIo, Space, page};

const OK: IoResult = Ok(IoDone::Ok);

/// Runs every operation on what holds no rows, and leaves none.
///
/// # Panics
/// It does something else than it must.
pub fn check(execute: &dyn Fn(RowIo) -> IoResult) {
    let checked = Checked(execute);
    for check in [
        Checked::absent,
        Checked::one_by_one,
        Checked::in_order,
        Checked::by_range,
        Checked::by_page,
    ] {
        check(&checked);
        checked.write([
            range(Space::Records, &[0], &[0xff; 64]),
            range(Space::Bodies, &[0], &[0xff; 64]),
        ]);
        checked.absent();
    }
}

struct Checked<'a>(&'a dyn Fn(RowIo) -> IoResult);

fn put(space: Space, key: &[u8], value: &[u8]) -> RowChange {
    let [key, value] = [key, value].map(Bytes::copy_from_slice);
    RowChange::Put { space, key, value }
}

fn remove(space: Space, key: &[u8]) -> RowChange {
    RowChange::Remove { space, key: Bytes::copy_from_slice(key) }
}

fn range(space: Space, from: &[u8], before: &[u8]) -> RowChange {
    let [from, before] = [from, before].map(Bytes::copy_from_slice);
    RowChange::RemoveRange { space, from, before }
}

impl Checked<'_> {
    #[track_caller]
    fn write<const N: usize>(&self, changes: [RowChange; N]) {
        assert_eq!(self.0(RowIo::Write { changes: changes.into() }), OK);
    }

    fn get(&self, space: Space, key: &[u8]) -> IoResult {
        self.0(RowIo::Get { space, key: Bytes::copy_from_slice(key) })
    }

    fn scan(
        &self,
        space: Space,
        from: &[u8],
        before: &[u8],
        bytes_max: u32,
    ) -> Vec<(Bytes, Bytes)> {
        let [from, before] = [from, before].map(Bytes::copy_from_slice);
        let result = self.0(RowIo::Scan { space, from, before, bytes_max });
        let Ok(IoDone::Data(bytes)) = &result else { panic!("a scan came to {result:?}") };
        page(bytes).expect("a page")
    }

    #[track_caller]
    fn holds(&self, space: Space, expected: &[(&[u8], &[u8])]) {
        let found = self.scan(space, &[0], &[0xff; 64], u32::MAX);
        let found: Vec<(&[u8], &[u8])> =
            found.iter().map(|(key, value)| (&**key, &**value)).collect();
        assert_eq!(found, expected);
        for (key, value) in expected {
            assert_eq!(self.get(space, key), Ok(IoDone::Data(Bytes::copy_from_slice(value))));
        }
    }

    fn absent(&self) {
        for space in Space::ALL {
            assert_eq!(self.get(space, b"k"), Err(IoError::NotFound));
            self.holds(space, &[]);
        }
        assert_eq!(self.0(RowIo::Sync), OK);
        self.write([remove(Space::Records, b"k")]);
    }

    fn one_by_one(&self) {
        self.write([put(Space::Records, b"k", b"1"), put(Space::Bodies, b"k", b"2")]);
        self.write([put(Space::Records, &[0], b"first"), put(Space::Records, &[0, 0xff], b"")]);
        self.holds(Space::Records, &[(&[0], b"first"), (&[0, 0xff], b""), (b"k", b"1")]);
        self.holds(Space::Bodies, &[(b"k", b"2")]);
        self.write([put(Space::Records, b"k", b"another"), remove(Space::Records, &[0])]);
        self.holds(Space::Records, &[(&[0, 0xff], b""), (b"k", b"another")]);
        assert_eq!(self.0(RowIo::Sync), OK);
    }

    fn in_order(&self) {
        let records = Space::Records;
        self.write([put(records, b"a", b"1"), remove(records, b"a"), put(records, b"b", b"1")]);
        self.write([remove(records, b"b"), put(records, b"b", b"2"), put(records, b"b", b"3")]);
        self.holds(records, &[(b"b", b"3")]);
        // A range takes what is there and what came before it in the same write, and not what comes after.
        self.write([
            put(records, b"c", b"1"),
            range(records, b"a", b"z"),
            put(records, b"d", b"1"),
            put(records, b"b", b"4"),
        ]);
        self.holds(records, &[(b"b", b"4"), (b"d", b"1")]);
    }

    fn by_range(&self) {
        let bodies = Space::Bodies;
        self.write([b"a", b"b", b"c", b"d"].map(|key| put(bodies, key, key)));
        self.write([b"b", b"c"].map(|key| put(Space::Records, key, key)));
        self.write([
            range(bodies, b"b", b"d"),
            range(bodies, b"d", b"d"),
            range(bodies, b"z", b"a"),
        ]);
        self.holds(bodies, &[(b"a", b"a"), (b"d", b"d")]);
        self.holds(Space::Records, &[(b"b", b"b"), (b"c", b"c")]);
    }

    fn by_page(&self) {
        let records = Space::Records;
        for at in 0..40_u8 {
            self.write([put(records, &[at], &vec![at; 1000])]);
        }
        let first = self.scan(records, &[5], &[20], 1);
        assert_eq!(first.len(), 1, "one at least");
        let (mut from, mut found) = (vec![5], Vec::new());
        loop {
            let rows = self.scan(records, &from, &[20], 3000);
            let Some((last, _)) = rows.last() else { break };
            assert!(rows.len() <= 3, "{} rows of a thousand bytes", rows.len());
            from = [last, &[0][..]].concat();
            found.extend(rows.into_iter().map(|(key, value)| (key[0], value.len())));
        }
        assert!(found.into_iter().eq((5..20).map(|at| (at, 1000))));
        assert_eq!(self.scan(records, &[20], &[5], 3000), []);
    }
}
