//! Programs of the host: whether one is there, and where.

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Whether a file can be run.
pub fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The first program of that name on PATH. A name with a `/` is a path, and PATH is not asked.
pub fn on_path(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| is_program(path));
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|dir| dir.join(name)).find(|path| is_program(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_a_file_that_can_be_run() {
        let sh = on_path("sh").unwrap();
        assert!(is_program(&sh) && sh.ends_with("sh"));
        assert_eq!(on_path(sh.to_str().unwrap()), Some(sh));
        assert_eq!((on_path("no such program"), on_path("/"), on_path("/proc/self/stat")), (None, None, None));
    }
}
