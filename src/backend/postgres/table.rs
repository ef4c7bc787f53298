//! Tables whose columns are listed once, for reading, copying in and updating.

use tokio_postgres::types::Type;

/// Declares a row of a table: its columns by name, with their type here and there.
macro_rules! table {
    ($(#[$doc:meta])* $row:ident, $arrays:ident, $name:literal { $($column:ident: $ty:ty = $sql:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub(super) struct $row {
            $(pub(super) $column: $ty,)*
        }

        impl $row {
            #[allow(dead_code, reason = "visit types are written column by column")]
            pub(super) const TABLE: &str = $name;
            pub(super) const COLUMNS: &[&str] = &[$(stringify!($column)),*];

            /// From a row that begins with these columns: to look each of them up by its name would take
            /// longer than all the rest.
            pub(super) fn read(row: &tokio_postgres::Row) -> Result<Self, tokio_postgres::Error> {
                let mut places = 0..;
                let mut next = || places.next().unwrap_or_default();
                Ok(Self { $($column: row.try_get(next())?,)* })
            }

            /// Its values, in the order of the columns.
            pub(super) fn values(&self) -> Vec<&(dyn tokio_postgres::types::ToSql + Sync)> {
                vec![$(&self.$column),*]
            }

            #[allow(dead_code, reason = "not every table is copied into")]
            pub(super) fn types() -> Vec<tokio_postgres::types::Type> {
                vec![$(tokio_postgres::types::Type::$sql),*]
            }
        }

        /// Rows turned on their side: an array for each column.
        #[derive(Debug, Default)]
        #[allow(dead_code, reason = "not every table is written by arrays")]
        pub(super) struct $arrays {
            $($column: Vec<$ty>,)*
        }

        #[allow(dead_code, reason = "not every table is written by arrays")]
        impl $arrays {
            pub(super) fn push(&mut self, row: $row) {
                $(self.$column.push(row.$column);)*
            }

            pub(super) fn values(&self) -> Vec<&(dyn tokio_postgres::types::ToSql + Sync)> {
                vec![$(&self.$column),*]
            }
        }
    };
}

pub(super) use table;

/// The columns for a `select`, each of a table that goes by a letter.
pub(super) fn of(alias: &str, columns: &[&str]) -> String {
    columns.iter().map(|c| format!("{alias}.{c}")).collect::<Vec<_>>().join(", ")
}

/// `$1, $2, …`
pub(super) fn places(n: usize) -> String {
    (1..=n).map(|i| format!("${i}")).collect::<Vec<_>>().join(", ")
}

/// Writes a row whole; the one of the same key is replaced.
pub(super) fn upsert(table: &str, columns: &[&str], key: &[&str]) -> String {
    let rest = columns.iter().filter(|c| !key.contains(*c));
    let set = rest.map(|c| format!("{c} = excluded.{c}")).collect::<Vec<_>>().join(", ");
    format!(
        "insert into {{s}}.{table} ({}) values ({}) on conflict ({}) do update set {set}",
        columns.join(", "),
        places(columns.len()),
        key.join(", ")
    )
}

/// `unnest($1::bigint[], …) u(id, …)`
pub(super) fn unnest(columns: &[&str], types: &[Type]) -> String {
    let arrays: Vec<_> = types.iter().zip(1..).map(|(ty, i)| format!("${i}::{}[]", ty.name())).collect();
    format!("unnest({}) u({})", arrays.join(", "), columns.join(", "))
}
