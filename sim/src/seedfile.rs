//! Files of the corpus (`seeds/`): a seed that once failed, what was fixed of its run, and what broke.

use crate::setup::Overrides;
use ironseed_core::planted::Bug;
use serde::{Deserialize, Serialize};

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedFile {
    /// The seed, decimal or `0x...`: a string, because TOML's integers have a sign.
    pub seed: String,
    /// The commit at which it failed.
    pub found: String,
    /// What broke, in a sentence or two.
    pub broke: String,
    /// Which checker saw it.
    pub checker: String,
    /// The row of the bug bench that was planted, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bug: Option<u32>,
    /// What is fixed of the run.
    #[serde(default)]
    pub config: Overrides,
}

impl SeedFile {
    /// Reads a file's text.
    ///
    /// # Errors
    /// What is wrong with it, with its line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut file: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        // A file is the same run in every build.
        file.config.points.get_or_insert_default();
        parse_seed(&file.seed)?;
        file.config.check()?;
        if file.broke.trim().is_empty() || file.checker.trim().is_empty() {
            return Err(
                "`broke` and `checker` say why the seed is kept: they can't be empty".into()
            );
        }
        Ok(file)
    }

    /// Its seed.
    ///
    /// # Errors
    /// It is no number.
    pub fn seed(&self) -> Result<u64, String> {
        parse_seed(&self.seed)
    }
}

/// A seed as people write it: decimal or `0x...`.
///
/// # Errors
/// It is no number of 64 bits.
pub fn parse_seed(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|error| format!("{text:?} is no seed: {error}"))
}

/// An instant as the trace writes it: `412ms`, `1.5s`, `730us`, `12ns`. Nanoseconds.
///
/// # Errors
/// It is no instant.
pub fn parse_instant(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no instant: write 412ms, 1.5s or 730us");
    let at = text.find(|letter: char| letter.is_ascii_alphabetic()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(at);
    let digits: usize = match unit {
        "s" => 9,
        "ms" => 6,
        "us" => 3,
        "ns" => 0,
        _ => return Err(wrong()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty()
        || fraction.len() > digits
        || !fraction.bytes().all(|byte| byte.is_ascii_digit())
    {
        return Err(wrong());
    }
    let padded = format!("{whole}{fraction:0<digits$}");
    padded.parse().map_err(|_| wrong())
}

/// The bug of this row of the bench.
///
/// # Errors
/// There is none.
pub fn parse_bug(row: u32) -> Result<Bug, String> {
    let rows: Vec<u32> = Bug::ALL.iter().map(|bug| bug.row()).collect();
    let bug = Bug::ALL.iter().copied().find(|bug| bug.row() == row);
    bug.ok_or_else(|| format!("no bug {row} can be planted; these can: {rows:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::{Class, Crash, Fault, Moment, Planned};

    #[test]
    fn seeds_and_instants_are_read_as_people_write_them() {
        assert_eq!(parse_seed("0x5eed"), Ok(0x5eed));
        assert_eq!(parse_seed("18446744073709551615"), Ok(u64::MAX));
        assert!(parse_seed("-1").is_err());
        assert_eq!(parse_instant("412ms"), Ok(412_000_000));
        assert_eq!(parse_instant("1.5s"), Ok(1_500_000_000));
        assert_eq!(parse_instant("412.000017ms"), Ok(412_000_017));
        for wrong in ["412", "ms", "1.5ns", "-3ms", "1.x5s", "4 m"] {
            assert!(parse_instant(wrong).is_err(), "{wrong}");
        }
        assert!(parse_bug(3).is_ok() && parse_bug(13).is_err());
    }

    #[test]
    fn a_file_comes_back_as_it_was_written_and_unknown_keys_are_refused() {
        let fault =
            Fault::Crash { nodes: vec![1, 2], how: Crash::Power, moment: Moment::Answer, lasts: 5 };
        let config = Overrides {
            nodes: Some(3),
            faults: Some(vec![Class::PowerLoss]),
            plan: Some(vec![Planned { at: 7, fault }]),
            points: Some(std::collections::BTreeMap::new()),
            ..Overrides::default()
        };
        let file = SeedFile {
            seed: "0x5eed".into(),
            found: "0bf7018".into(),
            broke: "an acknowledged write was lost".into(),
            checker: "linearizable".into(),
            bug: Some(3),
            config,
        };
        let text = toml::to_string(&file).expect("it has a form");
        assert_eq!(SeedFile::parse(&text), Ok(file), "{text}");
        let wrong = SeedFile::parse(&format!("{text}\ncolour = \"red\"\n"));
        assert!(wrong.is_err_and(|error| error.contains("colour")));
        assert!(SeedFile::parse("seed = \"1\"\nfound=\"x\"\nbroke=\" \"\nchecker=\"y\"").is_err());
    }
}
