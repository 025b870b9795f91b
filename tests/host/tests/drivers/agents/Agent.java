// An agent that uses JDBC. Its arguments are the server's address and the file of the authority
// that it trusts.
import java.io.*;
import java.sql.*;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyManager;
import org.postgresql.largeobject.LargeObject;
import org.postgresql.largeobject.LargeObjectManager;

public class Agent {
    public static void main(String[] args) throws Exception {
        // Prepared on the server from the first run on, so that results come in binary.
        String url = "jdbc:postgresql://" + args[0] + "/postgres?sslmode=verify-full&sslrootcert="
            + args[1] + "&prepareThreshold=-1";
        try (Connection db = DriverManager.getConnection(url, "postgres", "")) {
            prepared(db);
            transaction(db);
            copy(db);
            binary(db);
            largeObjects(db);
            cancel(db);
            notifications(db);
        }
        System.out.println("done");
    }

    static void check(boolean good, String what) throws Exception {
        if (!good) throw new Exception(what);
    }

    static void prepared(Connection db) throws Exception {
        try (Statement s = db.createStatement()) { s.execute("CREATE TABLE orders (id int, name text)"); }
        try (PreparedStatement p = db.prepareStatement("INSERT INTO orders VALUES (?, ?)")) {
            for (int i = 0; i < 5; i++) { p.setInt(1, i); p.setString(2, "row " + i); p.addBatch(); }
            p.executeBatch();
        }
        try (PreparedStatement p = db.prepareStatement("SELECT name FROM orders WHERE id = ?")) {
            for (int i = 1; i < 4; i++) {
                p.setInt(1, i);
                try (ResultSet r = p.executeQuery()) {
                    check(r.next() && r.getString(1).equals("row " + i), "row " + i);
                }
            }
        }
        db.setAutoCommit(false);
        try (PreparedStatement p = db.prepareStatement("SELECT id FROM orders ORDER BY id")) {
            p.setFetchSize(2);
            int n = 0;
            try (ResultSet r = p.executeQuery()) { while (r.next()) n++; }
            check(n == 5, "rows: " + n);
        }
        db.commit();
    }

    static void transaction(Connection db) throws Exception {
        try (Statement s = db.createStatement()) {
            s.execute("INSERT INTO orders VALUES (100, 'gone')");
            s.execute("SELECT 1/0");
            throw new Exception("no error");
        } catch (SQLException e) { if (!"22012".equals(e.getSQLState())) throw e; }
        db.rollback();
        db.setAutoCommit(true);
        try (Statement s = db.createStatement(); ResultSet r = s.executeQuery("SELECT count(*) FROM orders")) {
            check(r.next() && r.getInt(1) == 5, "the rollback did nothing");
        }
    }

    static void copy(Connection db) throws Exception {
        CopyManager copies = db.unwrap(PGConnection.class).getCopyAPI();
        check(copies.copyIn("COPY orders FROM STDIN", new StringReader("7\tcopied\n8\tcopied\n")) == 2, "copied");
        StringWriter out = new StringWriter();
        copies.copyOut("COPY (SELECT id FROM orders WHERE id > 6 ORDER BY id) TO STDOUT", out);
        check(out.toString().equals("7\n8\n"), out.toString());
    }

    static void binary(Connection db) throws Exception {
        String text = "SELECT 7::int8, 2.5::float8, '\\x00ff'::bytea, true";
        try (PreparedStatement p = db.prepareStatement(text); ResultSet r = p.executeQuery()) {
            check(r.next() && r.getLong(1) == 7 && r.getDouble(2) == 2.5 && r.getBoolean(4), "binary");
            byte[] bytes = r.getBytes(3);
            check(bytes.length == 2 && bytes[0] == 0 && bytes[1] == -1, "bytea");
        }
    }

    static void largeObjects(Connection db) throws Exception {
        db.setAutoCommit(false);
        LargeObjectManager objects = db.unwrap(PGConnection.class).getLargeObjectAPI();
        long id = objects.createLO(LargeObjectManager.READWRITE);
        try (LargeObject object = objects.open(id, LargeObjectManager.READWRITE)) {
            object.write("large".getBytes("UTF-8"));
            object.seek(1);
            check(new String(object.read(10), "UTF-8").equals("arge"), "large object");
            check(object.tell64() == 5, "position");
            object.truncate(2);
        }
        objects.delete(id);
        db.commit();
        db.setAutoCommit(true);
    }

    static void cancel(Connection db) throws Exception {
        try (Statement s = db.createStatement()) {
            Thread other = new Thread(() -> {
                try {
                    while (true) { Thread.sleep(500); s.cancel(); }
                } catch (InterruptedException | SQLException e) { return; }
            });
            other.start();
            try { s.executeQuery("SELECT pg_sleep(60)"); throw new Exception("no cancel"); }
            catch (SQLException e) { if (!"57014".equals(e.getSQLState())) throw e; }
            finally { other.interrupt(); other.join(); }
        }
        try (Statement s = db.createStatement(); ResultSet r = s.executeQuery("SELECT 42")) {
            check(r.next() && r.getInt(1) == 42, "42");
        }
    }

    static void notifications(Connection db) throws Exception {
        try (Statement s = db.createStatement()) {
            s.execute("LISTEN news");
            s.execute("NOTIFY news, 'hello'");
        }
        PGNotification[] news = db.unwrap(PGConnection.class).getNotifications(20000);
        check(news.length == 1 && news[0].getParameter().equals("hello"), "no notification");
    }
}
