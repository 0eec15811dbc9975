use super::*;
#[test]
fn a_key_whose_time_has_come_is_gone() {
    let mut keyspace = Keyspace::new();
    let key = Bytes::from_static(b"k");
    keyspace.apply(&Change::Put(key.clone(), Value { data: Bytes::from_static(b"v"), expires_ms: Some(10) }));
    assert!(keyspace.get(b"k", 9).is_some());
    assert!(keyspace.get(b"k", 10).is_none());
    assert!(keyspace.peek(b"k").is_some());
    assert_eq!(keyspace.expired(10, 5), vec![key]);
}
