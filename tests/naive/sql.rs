//! What the incumbent did in its database, in a few statements: an upsert of every row that is listed,
//! pages after a URL, visits selected and then marked, and outcomes that are read, changed and written
//! back whole.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use deadpool_postgres::Client;
use tokio::sync::Barrier;

/// What is marked is not looked at again for a week, sent or not.
const COOLDOWN_HOURS: i64 = 7 * 24;

/// One connection to the table of all origins. Times are hours.
pub(crate) struct Naive {
    client: Client,
    table: String,
}

/// A row as it was read.
pub(crate) struct Row {
    url: String,
    scheduled: Option<i64>,
}

impl Naive {
    pub(crate) fn new(client: Client, schema: &str) -> Self {
        Self { client, table: format!("\"{schema}\".naive") }
    }

    /// Makes the table.
    pub(crate) async fn create(&self, schema: &str) {
        let table = &self.table;
        let sql = format!(
            "create schema if not exists \"{schema}\";
             create table {table} (url text, visit_type text, last_seen bigint, scheduled bigint,
               visited bigint, primary key (url, visit_type))"
        );
        self.client.batch_execute(&sql).await.unwrap();
    }

    pub(crate) async fn list(&self, origins: &[(String, &str)], hour: i64) {
        let sql = format!(
            "insert into {} (url, visit_type, last_seen) values ($1, $2, $3)
             on conflict (url, visit_type) do update set last_seen = excluded.last_seen",
            self.table
        );
        for (url, visit_type) in origins {
            self.client.execute(&sql, &[url, visit_type, &hour]).await.unwrap();
        }
    }

    /// A page of origins, and the URL after which the next one begins.
    pub(crate) async fn page(&self, after: &str, limit: usize) -> (Vec<(String, String)>, Option<String>) {
        let sql = format!(
            "select url, visit_type from {} where url > $1 order by url, visit_type limit $2",
            self.table
        );
        let rows = self.client.query(&sql, &[&after, &i64::try_from(limit).unwrap()]).await.unwrap();
        let found: Vec<(String, String)> = rows.iter().map(|r| (r.get(0), r.get(1))).collect();
        let next = found.last().filter(|_| found.len() == limit).map(|(url, _)| url.clone());
        (found, next)
    }

    async fn select(&self, count: usize, hour: i64) -> Vec<String> {
        // What was marked and not visited since waits for a week.
        let sql = format!(
            "select url from {} where scheduled is null or scheduled <= coalesce(visited, -1) or scheduled <= $1
             order by scheduled nulls first, url limit $2",
            self.table
        );
        let free = hour - COOLDOWN_HOURS;
        let rows = self.client.query(&sql, &[&free, &i64::try_from(count).unwrap()]).await.unwrap();
        rows.iter().map(|r| r.get(0)).collect()
    }

    async fn mark(&self, urls: &[String], hour: i64) {
        let sql = format!("update {} set scheduled = $1 where url = any($2)", self.table);
        self.client.execute(&sql, &[&hour, &urls]).await.unwrap();
    }

    pub(crate) async fn claim(&self, count: usize, hour: i64) -> Vec<String> {
        let selected = self.select(count, hour).await;
        self.mark(&selected, hour).await;
        selected
    }

    /// Claims at the moment at which another runner does.
    pub(crate) async fn claim_beside(&self, count: usize, hour: i64, selected: &Barrier) -> Vec<String> {
        let found = self.select(count, hour).await;
        selected.wait().await;
        self.mark(&found, hour).await;
        found
    }

    pub(crate) async fn read(&self, url: &str) -> Row {
        let sql = format!("select scheduled from {} where url = $1", self.table);
        let row = self.client.query_one(&sql, &[&url]).await.unwrap();
        Row { url: url.to_owned(), scheduled: row.get(0) }
    }

    /// Writes a visit into a row that was read before.
    pub(crate) async fn write(&self, row: Row, visited: i64) {
        let sql = format!("update {} set scheduled = $1, visited = $2 where url = $3", self.table);
        self.client.execute(&sql, &[&row.scheduled, &visited, &row.url]).await.unwrap();
    }
}
