//! Connections of one client address over all workers (`max-connections-per-client`, `security.md` D.2).
//!
//! An address holds an entry only while it holds a connection, so the table is bounded by the connections.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;

/// Locks that the addresses are shared out to.
const SHARDS: usize = 64;

type Counts = HashMap<IpAddr, u32, RandomState>;

/// Open connections by address. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Clients(Arc<Table>);

#[derive(Debug)]
struct Table {
    hasher: RandomState,
    shards: [Mutex<Counts>; SHARDS],
}

/// One connection of an address; counts until it is dropped.
#[derive(Debug)]
#[must_use = "the connection counts while this lives"]
pub struct ClientConnection {
    table: Arc<Table>,
    address: IpAddr,
}

impl Default for Table {
    fn default() -> Self {
        Self { hasher: RandomState::default(), shards: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl Clients {
    /// Counts a connection of `address`, unless it has `limit` already. No lock outlives the call.
    pub fn connect(&self, address: IpAddr, limit: u32) -> Option<ClientConnection> {
        let address = network(address);
        let mut counts = self.0.shard(&address);
        let count = counts.entry(address).or_default();
        if *count >= limit {
            if *count == 0 {
                counts.remove(&address);
            }
            return None;
        }
        *count += 1;
        Some(ClientConnection { table: Arc::clone(&self.0), address })
    }

    /// Addresses with a connection.
    pub fn len(&self) -> usize {
        self.0.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// True without any connection that counts.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Table {
    fn shard(&self, address: &IpAddr) -> MutexGuard<'_, Counts> {
        let [low, ..] = self.hasher.hash_one(address).to_le_bytes();
        let shard = self.shards.get(usize::from(low) % SHARDS);
        lock(shard.expect("a remainder of the number of shards"))
    }
}

fn lock(shard: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for ClientConnection {
    fn drop(&mut self) {
        let mut counts = self.table.shard(&self.address);
        if let Some(count) = counts.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// Who counts as one client: an IPv4 address however it is written, or the /64 network that one subscriber has.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_number_of_connections_and_gets_them_back() {
        let clients = Clients::default();
        let one: IpAddr = [192, 0, 2, 1].into();
        let mut open: Vec<_> = (0..3).filter_map(|_| clients.connect(one, 2)).collect();
        assert_eq!(open.len(), 2);
        assert!(clients.connect([192, 0, 2, 2].into(), 2).is_some(), "another address is another client");
        open.pop();
        assert!(clients.connect(one, 2).is_some());
        drop(open);
        assert!(clients.is_empty(), "nobody is remembered");
        assert!(clients.connect(one, 0).is_none());
        assert!(clients.is_empty());
    }

    #[test]
    fn spellings_of_one_client_are_one_client() {
        for (first, second, same) in [
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8::1", "2001:db8::ffff", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("192.0.2.1", "192.0.2.2", false),
        ] {
            let clients = Clients::default();
            let _open = clients.connect(first.parse().unwrap(), 1);
            assert_eq!(clients.connect(second.parse().unwrap(), 1).is_none(), same, "{first} {second}");
        }
    }
}
