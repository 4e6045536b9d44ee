//! The sets of servers that tests use do what they are for.

use lockrelay_tests::redis_cluster::RedisCluster;
use lockrelay_tests::redis_sentinel::SentinelSet;

#[tokio::test]
async fn sentinels_make_the_replica_master_once_the_master_is_dead() {
    let mut set = SentinelSet::start().await;
    assert_eq!(set.master_port().await, set.servers[0].port());
    set.servers[0].kill().await;
    set.until_master_is(1).await;
    set.servers[0].start_again().await;
    set.servers[0].until_it_follows().await;
}

#[tokio::test]
async fn replica_of_a_dead_master_serves_its_slots() {
    let mut cluster = RedisCluster::start().await;
    let owner = cluster.owner_of(0, 0).await;
    let replica = RedisCluster::partner(owner);
    cluster.nodes[owner].kill().await;
    cluster.until_owner_is(0, replica).await;
    cluster.nodes[owner].start_again().await;
    cluster.until_all_agree().await;
}
