//! What operators ask of a mesh that clients use: whether all copies are the same, and that writes wait for a while.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::client::Reply;
use crate::mesh::{Mesh, Plan, until};

#[test]
fn copies_are_compared_while_clients_write_and_writes_can_be_paused() {
    let mesh = Mesh::of(Plan::of(3, 2));
    for key in 0..300 {
        mesh.ask(key % 3, &["SET", &format!("k{key}"), &format!("v{key}")]).expect("a reply");
    }

    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let mut client = mesh.client(1);
            let mut written = 0;
            while !over.load(Ordering::Relaxed) {
                assert_eq!(
                    client.ask(&["INCR", &format!("n{}", written % 50)]).expect("a reply").text(),
                    Some((written / 50 + 1).to_string())
                );
                written += 1;
            }
            written
        });
        for node in 0..3 {
            let verified = mesh.ctl(node, &["verify"]).expect("an answer");
            assert_eq!(verified["well"], true, "{verified}");
            assert!(verified["keys"].as_u64() >= Some(300), "{}", verified["keys"]);
        }
        over.store(true, Ordering::Relaxed);
        let written = writing.join().expect("every write was answered");
        assert!(written > 0);
    });
    // Ranges were on their way to their holders all the while. In the end each has two.
    until("the copies of a range are the same", Duration::from_secs(30), || {
        let one = mesh.ctl(0, &["verify", "slot:0"]).expect("an answer");
        let holders = one["ranges"][0]["holders"].as_array().expect("a list");
        one["well"] == true && holders.len() == 2 && holders.iter().all(|holder| holder["compared"] == "same")
    });

    // Paused at one node, agreed by all.
    assert!(mesh.ctl(2, &["pause"]).is_some_and(|done| done["error"].is_null()));
    let told = |code: &str| {
        let status = mesh.ctl(1, &["status"]).expect("a status");
        status["problems"].as_array().expect("a list").iter().any(|problem| problem["code"] == code)
    };
    until("every node knows of it", Duration::from_secs(5), || told("writes-paused"));
    let asked = Instant::now();
    let Reply::Error(refusal) = mesh.ask(0, &["SET", "k1", "late"]).expect("a reply") else { panic!("written") };
    assert!(refusal.starts_with("TRYAGAIN writes are paused"), "{refusal}");
    assert!(asked.elapsed() >= Duration::from_secs(1), "it was held for {:?}", asked.elapsed());
    assert_eq!(mesh.ask(0, &["GET", "k1"]).expect("a reply"), Reply::Bulk("v1".into()));

    // What is held when it ends is carried out.
    let mut client = mesh.client(0);
    client.send(&["SET", "k1", "in time"]).expect("it is taken");
    assert!(mesh.ctl(1, &["resume"]).is_some_and(|done| done["error"].is_null()));
    assert_eq!(client.reply().expect("a reply"), Reply::Simple("OK".into()));
    assert_eq!(mesh.ask(2, &["GET", "k1"]).expect("a reply"), Reply::Bulk("in time".into()));
    until("nothing is wrong", Duration::from_secs(5), || !told("writes-paused"));
}
