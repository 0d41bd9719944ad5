//! The inputs from which others are made.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Inputs of one kind.
#[derive(Debug)]
pub struct Corpus {
    /// The inputs, by the names of their files.
    pub inputs: Vec<(String, Vec<u8>)>,
    /// Those of which nothing is made, because they take long: their names begin with [`SLOW`].
    pub slow: Vec<(String, Vec<u8>)>,
    /// Words in them.
    pub words: Vec<Vec<u8>>,
}

/// What the name of an input begins with that takes long by its nature: others like it would leave no time for the rest.
const SLOW: &str = "slow-";
/// Longest word that is kept.
const LONGEST: usize = 24;

/// Reads the files of a directory.
///
/// # Errors
/// It cannot be read, or has nothing in it.
pub fn read(dir: &Path) -> Result<Corpus, String> {
    let cannot = |error: std::io::Error| format!("cannot read {}: {error}", dir.display());
    let mut inputs = Vec::new();
    for entry in fs::read_dir(dir).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        inputs.push((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).map_err(cannot)?));
    }
    if inputs.is_empty() {
        return Err(format!("no inputs in {}", dir.display()));
    }
    inputs.sort();
    let (slow, inputs): (Vec<_>, Vec<_>) = inputs.into_iter().partition(|(name, _)| name.starts_with(SLOW));
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let all = inputs.iter().flat_map(|(_, input)| input.split(|byte| !is_word(byte)));
    let words: BTreeSet<Vec<u8>> = all.filter(|word| (1..=LONGEST).contains(&word.len())).map(<[u8]>::to_vec).collect();
    Ok(Corpus { inputs, slow, words: words.into_iter().collect() })
}
