//! Fleets: which host of a lab boots which kernel and runs which suites there, in one file, and the LAVA jobs that do it.

mod file;
mod lava;
mod yaml;

pub use file::Fleet;
pub use yaml::Yaml;

/// A job for the lab.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Host, kernel and, of several, the shard: `xeon-1-6.12-2of4`.
    pub name: String,
    /// What LAVA takes.
    pub definition: Yaml,
}

impl Fleet {
    /// A job for each host, kernel and shard, in that order, by name.
    pub fn jobs(&self) -> impl Iterator<Item = Job> {
        let kernels = self.hosts.iter().flat_map(|(name, host)| host.kernels.iter().map(move |it| (name, host, it)));
        kernels.flat_map(move |(name, host, kernel)| {
            (1..=self.shards).map(move |shard| lava::job(self, name, host, kernel, shard))
        })
    }
}
