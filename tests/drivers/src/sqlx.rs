//! An agent that uses `sqlx`, with rustls. Its argument is the file of the authority that it trusts.

use std::{str::FromStr, time::Duration};

use anyhow::{Context, Result, ensure};
use futures_util::TryStreamExt;
use sqlx::{
    Connection, Row,
    postgres::{PgConnectOptions, PgConnection, PgListener, PgPoolOptions, PgSslMode},
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let file = std::env::args().nth(1).context("which authority?")?;
    // The rest comes from the environment, as libpq has it.
    let options = PgConnectOptions::from_str("postgres://")?
        .ssl_mode(PgSslMode::VerifyFull)
        .ssl_root_cert(file);
    let mut db = PgConnection::connect_with(&options).await?;

    prepared(&mut db).await?;
    transaction(&mut db).await?;
    copy(&mut db).await?;
    binary(&mut db).await?;
    cancel(&mut db, &options).await?;

    let pool = PgPoolOptions::new().max_connections(1).connect_with(options).await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen("news").await?;
    sqlx::query("NOTIFY news, 'hello'").execute(&mut db).await?;
    ensure!(listener.recv().await?.payload() == "hello");
    drop(listener);
    pool.close().await;

    let answer: i32 = sqlx::query_scalar("SELECT 42").fetch_one(&mut db).await?;
    ensure!(answer == 42);
    db.close().await?;
    println!("done");
    Ok(())
}

async fn prepared(db: &mut PgConnection) -> Result<()> {
    sqlx::query("CREATE TABLE orders (id int, name text)").execute(&mut *db).await?;
    for id in 0..5_i32 {
        sqlx::query("INSERT INTO orders VALUES ($1, $2)")
            .bind(id)
            .bind(format!("row {id}"))
            .execute(&mut *db)
            .await?;
    }
    for id in 1..=3_i32 {
        let name: String = sqlx::query_scalar("SELECT name FROM orders WHERE id = $1")
            .bind(id)
            .fetch_one(&mut *db)
            .await?;
        ensure!(name == format!("row {id}"));
    }
    Ok(())
}

async fn transaction(db: &mut PgConnection) -> Result<()> {
    let mut transaction = db.begin().await?;
    sqlx::query("INSERT INTO orders VALUES (100, 'gone')").execute(&mut *transaction).await?;
    let failed = sqlx::query("SELECT 1/0").fetch_one(&mut *transaction).await;
    ensure!(code(failed).as_deref() == Some("22012"));
    transaction.rollback().await?;
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM orders").fetch_one(&mut *db).await?;
    ensure!(count == 5, "{count} rows");
    Ok(())
}

async fn copy(db: &mut PgConnection) -> Result<()> {
    let mut sink = db.copy_in_raw("COPY orders FROM STDIN").await?;
    sink.send(&b"7\tcopied\n"[..]).await?;
    sink.send(&b"8\tcopied\n"[..]).await?;
    ensure!(sink.finish().await? == 2);
    let out = "COPY (SELECT id FROM orders WHERE id > 6 ORDER BY id) TO STDOUT";
    let data: Vec<_> = db.copy_out_raw(out).await?.try_collect().await?;
    ensure!(data.concat() == b"7\n8\n", "{data:?}");
    Ok(())
}

async fn binary(db: &mut PgConnection) -> Result<()> {
    let text = r"SELECT 7::int8, 2.5::float8, '\x00ff'::bytea, true";
    let row = sqlx::query(text).fetch_one(db).await?;
    ensure!(row.try_get::<i64, _>(0)? == 7);
    ensure!((row.try_get::<f64, _>(1)? - 2.5).abs() < f64::EPSILON);
    ensure!(row.try_get::<Vec<u8>, _>(2)? == [0, 255]);
    ensure!(row.try_get::<bool, _>(3)?);
    Ok(())
}

/// This driver sends no cancel requests: another connection asks by SQL.
async fn cancel(db: &mut PgConnection, options: &PgConnectOptions) -> Result<()> {
    let process: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *db).await?;
    let mut other = PgConnection::connect_with(options).await?;
    let asked = async {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            sqlx::query("SELECT pg_cancel_backend($1)").bind(process).execute(&mut other).await?;
        }
    };
    tokio::select! {
        slept = sqlx::query("SELECT pg_sleep(60)").fetch_one(db) => {
            ensure!(code(slept).as_deref() == Some("57014"));
            Ok(())
        }
        asked = asked => asked,
    }
}

fn code<T>(result: sqlx::Result<T>) -> Option<String> {
    result.err()?.as_database_error()?.code().map(std::borrow::Cow::into_owned)
}
