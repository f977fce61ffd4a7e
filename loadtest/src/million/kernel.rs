//! What connections cost the kernel: its slab caches, and its own count of TCP buffers.

use std::collections::BTreeMap;
use std::fs::read_to_string;
use std::time::Duration;

use procfs::{Current, Meminfo};

use crate::figures::Value;

const PAGE_BYTES: f64 = 4096.0;
/// Caches whose objects come and go with sockets, descriptors and io_uring. Others (inodes, page cache) change with what else
/// runs on the machine; they are summed up, and not counted.
const COUNTED: [&str; 12] = [
    "TCP",
    "request_sock_TCP",
    "tcp_",
    "sock_inode_cache",
    "skbuff_",
    "filp",
    "dentry",
    "lsm_",
    "io_",
    "io-",
    "kmalloc-",
    "eventpoll",
];
/// One object for each address and port that a client binds itself to: the relay's ends have none.
const CLIENT_ONLY: &str = "tcp_bind2_bucket";
/// Behind the name of such a cache.
const OF_CLIENTS: &str = " (client)";
/// What is left of the sockets of ended connections for a minute; in no figure.
const TIME_WAIT: &str = "tw_sock_TCP";
/// Name of everything that is not counted.
const OTHERS: &str = "(not counted: other caches)";

/// How long the kernel may take to give back what ended connections had.
const GIVE_BACK_S: u32 = 15;
/// Caches that shrink by less than this share in a second have settled.
const SETTLED_SHARE: f64 = 0.001;
/// Sockets that others on this machine may have opened meanwhile.
const OTHERS_SOCKETS: f64 = 100.0;

#[derive(Clone, Debug)]
pub struct Kernel {
    /// Bytes of each cache; without the right to read them, of all together.
    caches: Result<BTreeMap<String, f64>, String>,
    /// See `Sockstat`.
    pub sockstat: Result<Sockstat, String>,
}

/// `/proc/net/sockstat`, as far as it is about TCP.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sockstat {
    /// Sockets in use: both ends of connections of this machine.
    pub in_use: f64,
    pub buffer_bytes: f64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Growth {
    /// Of the caches that count.
    pub bytes: f64,
    /// The part that only clients have; `None`: the kernel does not show the caches one by one.
    pub client_bytes: Option<f64>,
    /// Each in bytes, largest first.
    pub by_cache: Vec<(String, f64)>,
}

impl Kernel {
    pub fn sample() -> Self {
        Self { caches: caches(), sockstat: sockstat() }
    }

    /// Reads it when the caches have stopped shrinking and, if there is a `before`, the sockets that came after it are gone; or
    /// after a while.
    pub fn sample_settled(before: Option<&Self>) -> Self {
        let in_use = |kernel: &Self| kernel.sockstat.as_ref().map_or(0.0, |stat| stat.in_use);
        let in_use_max = before.map_or(f64::INFINITY, in_use) + OTHERS_SOCKETS;
        let mut now = Self::sample();
        for _ in 0..GIVE_BACK_S {
            std::thread::sleep(Duration::from_secs(1));
            let last = std::mem::replace(&mut now, Self::sample());
            let bytes = now.counted_bytes().ok().zip(last.counted_bytes().ok());
            let shrinks = bytes.is_some_and(|(now, last)| now < last * (1.0 - SETTLED_SHARE));
            if !shrinks && in_use(&now) <= in_use_max {
                break;
            }
        }
        now
    }

    pub fn growth(&self, earlier: &Self) -> Result<Growth, String> {
        Ok(growth(earlier.caches.as_ref()?, self.caches.as_ref()?))
    }

    fn counted_bytes(&self) -> Value {
        let caches = self.caches.as_ref()?;
        Ok(caches.iter().filter(|(name, _)| is_counted(name)).map(|(_, bytes)| bytes).sum())
    }
}

fn caches() -> Result<BTreeMap<String, f64>, String> {
    if let Ok(text) = read_to_string("/proc/slabinfo") {
        return Ok(parse_slabinfo(&text, &likely_names(&links())));
    }
    // Only root may read the caches one by one.
    let memory = Meminfo::current().map_err(|error| error.to_string())?;
    Ok(BTreeMap::from([(WHOLE_SLAB.to_owned(), memory.slab as f64)]))
}

const WHOLE_SLAB: &str = "all slab caches (root is told each)";

fn is_counted(cache: &str) -> bool {
    cache == WHOLE_SLAB || COUNTED.iter().any(|prefix| cache.starts_with(prefix))
}

/// Caches that the kernel has merged: name, and the name of what they share.
fn links() -> Vec<(String, String)> {
    let Ok(entries) = std::fs::read_dir("/sys/kernel/slab") else { return Vec::new() };
    let link = |entry: std::fs::DirEntry| {
        let shared = std::fs::read_link(entry.path()).ok()?;
        Some((entry.file_name().into_string().ok()?, shared.into_os_string().into_string().ok()?))
    };
    entries.flatten().filter_map(link).collect()
}

/// The kernel merges caches of the same size and tells them by the name of any one. For each such name that of the one among them
/// which connections most likely fill: a client's own, then as in `COUNTED`.
fn likely_names(links: &[(String, String)]) -> BTreeMap<String, String> {
    let mut merged: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, shared) in links {
        merged.entry(shared).or_default().push(name);
    }
    let rank = |name: &str| {
        let counted = COUNTED.iter().position(|prefix| name.starts_with(prefix));
        if name == CLIENT_ONLY { Some(0) } else { counted.map(|place| place + 1) }
    };
    let mut names = BTreeMap::new();
    for same in merged.values() {
        let likely = same.iter().filter_map(|name| Some((rank(name)?, *name))).min();
        let Some((_, likely)) = likely else { continue };
        names.extend(same.iter().map(|&name| (name.to_owned(), likely.to_owned())));
    }
    names
}

/// Bytes of each cache, by its likely name.
///
/// `name active_objs num_objs objsize objperslab pagesperslab : tunables … : slabdata active_slabs num_slabs …`
fn parse_slabinfo(text: &str, likely_names: &BTreeMap<String, String>) -> BTreeMap<String, f64> {
    let mut caches = BTreeMap::new();
    for line in text.lines().skip(2) {
        let fields: Vec<_> = line.split_whitespace().collect();
        let number = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok());
        if let (Some(&name), Some(pages), Some(slabs)) = (fields.first(), number(5), number(14)) {
            let name = likely_names.get(name).map_or(name, String::as_str);
            let whose = if name == CLIENT_ONLY { OF_CLIENTS } else { "" };
            *caches.entry(format!("{name}{whose}")).or_insert(0.0) += pages * slabs * PAGE_BYTES;
        }
    }
    caches
}

fn growth(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) -> Growth {
    let grown =
        after.iter().map(|(name, bytes)| (name.clone(), bytes - before.get(name).copied().unwrap_or(0.0)));
    let (mut by_cache, others): (Vec<_>, Vec<_>) = grown.partition(|(name, _)| is_counted(name));
    let sum = |part: &mut dyn Iterator<Item = &(String, f64)>| part.map(|(_, grown)| grown).sum();
    let bytes = sum(&mut by_cache.iter());
    let of_clients = sum(&mut by_cache.iter().filter(|(name, _)| name.ends_with(OF_CLIENTS)));
    let client_bytes = (!after.contains_key(WHOLE_SLAB)).then_some(of_clients);
    by_cache.sort_by(|a, b| b.1.total_cmp(&a.1));
    let others = sum(&mut others.iter().filter(|(name, _)| !name.starts_with(TIME_WAIT)));
    by_cache.push((OTHERS.to_owned(), others));
    by_cache.retain(|(_, grown)| *grown != 0.0);
    Growth { bytes, client_bytes, by_cache }
}

fn sockstat() -> Result<Sockstat, String> {
    let path = "/proc/net/sockstat";
    let text = read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let mut stat = parse_sockstat(&text).ok_or_else(|| format!("{path} has no line about TCP"))?;
    // Sockets of IPv6 have a line of their own, with nothing but their number.
    let six = read_to_string("/proc/net/sockstat6").unwrap_or_default();
    stat.in_use += field(&six, "TCP6:", "inuse").unwrap_or(0.0);
    Ok(stat)
}

/// `TCP: inuse 5 orphan 0 tw 2 alloc 7 mem 3`; memory in pages.
fn parse_sockstat(text: &str) -> Option<Sockstat> {
    let tcp = |name| field(text, "TCP:", name);
    Some(Sockstat { in_use: tcp("inuse")?, buffer_bytes: tcp("mem")? * PAGE_BYTES })
}

fn field(text: &str, line: &str, name: &str) -> Option<f64> {
    let mut fields = text.lines().find_map(|text| text.strip_prefix(line))?.split_whitespace();
    fields.find(|field| *field == name)?;
    fields.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLABINFO: &str = "slabinfo - version: 2.1\n# name …\n\
        ext4_inode_cache 10 20 1000 8 2 : tunables 0 0 0 : slabdata 3 3 0\n\
        tw_sock_TCP 10 20 256 8 2 : tunables 0 0 0 : slabdata 9 9 0\n\
        TCP 117 120 2368 13 8 : tunables 0 0 0 : slabdata 9 10 0\n\
        filp 1 2 192 21 1 : tunables 0 0 0 : slabdata 2 4 0\n";

    #[test]
    fn caches_are_counted_in_whole_pages() {
        let caches = parse_slabinfo(SLABINFO, &BTreeMap::new());
        assert_eq!((caches["TCP"], caches["filp"]), (10.0 * 8.0 * 4096.0, 4.0 * 4096.0));
    }

    #[test]
    fn growth_counts_what_belongs_to_connections() {
        let parse = |text: &str| parse_slabinfo(text, &BTreeMap::new());
        let before = parse(SLABINFO);
        let after = parse(&SLABINFO.replace("9 10 0", "9 15 0").replace("3 3 0", "3 5 0"));
        let growth = growth(&before, &after);
        assert_eq!((growth.bytes, growth.client_bytes), (5.0 * 8.0 * 4096.0, Some(0.0)));
        assert_eq!(
            growth.by_cache,
            [("TCP".to_owned(), 163_840.0), (OTHERS.to_owned(), 2.0 * 2.0 * 4096.0)],
            "neither caches that did not change nor TIME_WAIT"
        );
    }

    #[test]
    fn a_merged_cache_has_its_likely_name_whichever_the_kernel_tells() {
        let links = [
            ("eventpoll_epi", ":A-0000128"),
            ("pte_list_desc", ":A-0000128"),
            ("tcp_bind2_bucket", ":A-0000128"),
            ("tcp_bind_bucket", ":A-0000128"),
            ("lsm_file_cache", ":0000024"),
            ("fsnotify_mark_connector", ":0000024"),
            ("jbd2_inode", ":0000064"),
        ];
        let names = likely_names(&links.map(|(name, shared)| (name.to_owned(), shared.to_owned())));
        assert_eq!(names["fsnotify_mark_connector"], "lsm_file_cache");
        assert!(!names.contains_key("jbd2_inode"));
        for told in ["eventpoll_epi", "pte_list_desc", "tcp_bind2_bucket"] {
            let parse = |text: &str| parse_slabinfo(&text.replace("filp", told), &names);
            let growth = growth(&parse(SLABINFO), &parse(&SLABINFO.replace("2 4 0", "2 9 0")));
            assert_eq!((growth.bytes, growth.client_bytes), (5.0 * 4096.0, Some(5.0 * 4096.0)), "{told}");
            assert_eq!(growth.by_cache, [("tcp_bind2_bucket (client)".to_owned(), 5.0 * 4096.0)]);
        }
        let whole = BTreeMap::from([(WHOLE_SLAB.to_owned(), 1.0)]);
        assert_eq!(super::growth(&whole, &whole).client_bytes, None);
    }

    #[test]
    fn sockets_and_their_buffers_are_read() {
        let text = "sockets: used 12\nTCP: inuse 7 orphan 0 tw 2 alloc 9 mem 58\nUDP: inuse 0 mem 1\n";
        let expected = Sockstat { in_use: 7.0, buffer_bytes: 58.0 * 4096.0 };
        assert_eq!(parse_sockstat(text), Some(expected));
        assert_eq!(parse_sockstat("UDP: inuse 0"), None);
    }

    #[test]
    fn this_kernel_tells_its_memory() {
        let sample = Kernel::sample();
        assert!(sample.counted_bytes().unwrap() > 0.0);
        assert!(sample.sockstat.as_ref().unwrap().in_use >= 0.0);
        assert!(sample.growth(&sample).unwrap().by_cache.is_empty());
    }
}
