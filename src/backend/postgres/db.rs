//! Statements within one transaction.

use deadpool_postgres::Transaction;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::sql::failed;
use crate::backend::Result;

/// The schema, as it stands in statements.
#[derive(Debug, Clone)]
pub(super) struct Schema {
    name: String,
    quoted: String,
}

impl Schema {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), quoted: format!("\"{name}\"") }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A statement with the schema put in.
    pub(super) fn sql(&self, statement: &str) -> String {
        statement.replace("{s}", &self.quoted)
    }
}

/// A transaction under way.
pub(super) struct Db<'t> {
    pub(super) tx: &'t Transaction<'t>,
    pub(super) schema: &'t Schema,
}

impl Db<'_> {
    async fn prepared(&self, statement: &str) -> Result<tokio_postgres::Statement> {
        let sql = self.schema.sql(statement);
        self.tx.prepare_cached(&sql).await.map_err(|e| failed("preparing a statement", e))
    }

    pub(super) async fn rows(&self, statement: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        let prepared = self.prepared(statement).await?;
        self.tx.query(&prepared, params).await.map_err(|e| failed("reading", e))
    }

    pub(super) async fn row(&self, statement: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Row> {
        let prepared = self.prepared(statement).await?;
        self.tx.query_one(&prepared, params).await.map_err(|e| failed("reading", e))
    }

    /// Runs a statement; tells how many rows it wrote.
    pub(super) async fn run(&self, statement: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64> {
        let prepared = self.prepared(statement).await?;
        self.tx.execute(&prepared, params).await.map_err(|e| failed("writing", e))
    }

    /// Copies rows in.
    pub(super) async fn copy(
        &self,
        table: &str,
        columns: &[&str],
        types: &[Type],
        rows: impl Iterator<Item = Vec<&(dyn ToSql + Sync)>>,
    ) -> Result<()> {
        let statement = format!("copy {{s}}.{table} ({}) from stdin binary", columns.join(", "));
        let prepared = self.prepared(&statement).await?;
        let failed = |e| failed("copying rows in", e);
        let sink = self.tx.copy_in(&prepared).await.map_err(failed)?;
        let writer = tokio_postgres::binary_copy::BinaryCopyInWriter::new(sink, types);
        futures::pin_mut!(writer);
        for row in rows {
            writer.as_mut().write(&row).await.map_err(failed)?;
        }
        writer.finish().await.map_err(failed)?;
        Ok(())
    }
}
