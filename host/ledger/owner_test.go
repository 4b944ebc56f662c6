package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/internal/pgtest"
)

// TestMain plays a host that is killed, where a test says so.
func TestMain(m *testing.M) {
	source := os.Getenv("BOMBYX_LEDGER_VICTIM")
	if source == "" {
		os.Exit(m.Run())
	}
	ctx := context.Background()
	l, err := Open(ctx, source, clock)
	if err == nil {
		err = errors.Join(l.Take(ctx, "e"), l.AddChannel(ctx, "0:a", key), l.PutVoucher(ctx, "0:a", 20, []byte{20}), l.PutVoucher(ctx, "0:a", 30, []byte{30}), l.PutVoucher(ctx, "0:a", 50, []byte{50}))
	}
	if err == nil {
		fmt.Println("ready")
		err = l.SetStream(ctx, Stream{Channel: "0:a", ID: "s", Enclave: "e", Tab: "t", Cost: 20})
	}
	fmt.Fprintln(os.Stderr, "the victim has survived:", err)
	os.Exit(1)
}

// PostgreSQL goes on with a COMMIT whose client was killed. The next process
// must not read the books before that has ended: a request that it finds ended
// would be recorded as running afterwards, and be claimed twice.
func TestOrphan(t *testing.T) {
	pg := pgtest.Start(t)
	db, err := sql.Open("pgx", pg.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	do := func(query string, args ...any) {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
			t.Fatal(err)
		}
	}
	until := func(what, query string) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
			var ok bool
			if err := db.QueryRowContext(t.Context(), "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE $1)", query).Scan(&ok); err != nil {
				t.Fatal(err)
			} else if ok {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: not within a minute", what)
			}
		}
	}
	first, err := Open(t.Context(), pg.URL, clock) // makes the schema
	if err != nil {
		t.Fatal(err)
	}
	first.Close()
	// A commit that records a running request waits for this lock.
	do(`CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END'`)
	do(`CREATE CONSTRAINT TRIGGER hold AFTER INSERT ON streams DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hold()`)
	lock, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if _, err := lock.ExecContext(t.Context(), `SELECT pg_advisory_lock(1)`); err != nil {
		t.Fatal(err)
	}

	victim := exec.Command(os.Args[0])
	victim.Env = append(os.Environ(), "BOMBYX_LEDGER_VICTIM="+pg.URL)
	victim.Stderr = os.Stderr
	victim.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := victim.StdoutPipe()
	if err == nil {
		err = victim.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	until("the commit", "commit%")
	victim.Process.Kill()
	victim.Wait()

	l, err := Open(t.Context(), pg.URL, clock)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// One whose process cannot even say that it is gone ends by itself.
	for setting, want := range map[string]string{"statement_timeout": "30s", "idle_in_transaction_session_timeout": "5s"} {
		var v string
		if err := l.db.QueryRowContext(t.Context(), "SHOW "+setting).Scan(&v); err != nil || v != want {
			t.Errorf("%s is %s, want %s, %v", setting, v, want, err)
		}
	}
	taken := make(chan error, 1)
	go func() { taken <- l.Take(t.Context(), "e") }()
	until("the successor's wait for the orphan", "SELECT process FROM owners%")
	select {
	case err := <-taken:
		t.Fatal("the successor begins before the orphan has ended: ", err)
	default:
	}
	if _, err := lock.ExecContext(t.Context(), `SELECT pg_advisory_unlock(1)`); err != nil {
		t.Fatal(err)
	}
	if err := <-taken; err != nil {
		t.Fatal(err)
	}
	// The orphan did commit: this is what had to be waited for.
	if left, err := l.Streams(t.Context()); err != nil || len(left) != 1 {
		t.Fatalf("%v, %v", left, err)
	}
	if due, err := l.Resume(t.Context(), Tab{"0:a", "e", "t", 30}); err != nil || due != 30 {
		t.Errorf("due %d, %v", due, err)
	}
	if left, err := l.Streams(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
	payable(t, l, 30, 30)
}

func TestTake(t *testing.T) {
	stores(t, func(t *testing.T, source string) {
		ctx := t.Context()
		reader, err := Open(ctx, source, clock)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { reader.Close() })
		if err := reader.Take(ctx); err == nil {
			t.Error("took nothing")
		}
		if err := reader.AddChannel(ctx, "0:r", key); err == nil || errors.Is(err, ErrTaken) {
			t.Errorf("a write without Take: %v", err)
		}
		a, other := open(t, source, "e", "f"), open(t, source, "g")
		for _, err := range []error{a.AddChannel(ctx, "0:a", key), a.PutVoucher(ctx, "0:a", 10, []byte{10}), a.Confirm(ctx)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		b := open(t, source, "f")
		select {
		case <-a.Taken():
			t.Error("it cannot know yet")
		default:
		}
		_, resumed := a.Resume(ctx, Tab{"0:a", "e", "t", 5})
		for name, err := range map[string]error{
			"voucher":  a.PutVoucher(ctx, "0:a", 20, []byte{20}),
			"booking":  a.Book(ctx, Tab{"0:a", "e", "t", 5}),
			"resume":   resumed,
			"stream":   a.SetStream(ctx, Stream{Channel: "0:a", ID: "s", Enclave: "e"}),
			"loss":     a.Lose(ctx, "0:a", "s"),
			"session":  a.BeginSession(ctx, "0:a", 5),
			"channel":  a.AddChannel(ctx, "0:b", key),
			"closing":  a.SetClosing(ctx, "0:a", clock()),
			"deadline": a.SetDeadline(ctx, "0:a", clock()),
			"chain":    a.SetChainState(ctx, "0:a", 5, true),
			"nothing":  a.Confirm(ctx),
		} {
			if !errors.Is(err, ErrTaken) {
				t.Errorf("%s of a process whose enclave was taken: %v", name, err)
			}
		}
		select {
		case <-a.Taken():
		default:
			t.Error("it does not know")
		}
		for _, l := range []*Ledger{reader, b, other} {
			if c, err := l.Channel(ctx, "0:a"); err != nil || c.Authorised != 10 || c.Spent != 0 || c.Closed {
				t.Errorf("%+v, %v", c, err)
			}
		}
		for _, l := range []*Ledger{b, other} {
			if err := l.Confirm(ctx); err != nil {
				t.Error(err)
			}
		}
	})
}

// A server, a role or a URL that acknowledges before the disk has it is refused.
func TestUnsafePostgres(t *testing.T) {
	pg := pgtest.Start(t)
	refused := func(source, setting string) {
		t.Helper()
		l, err := Open(t.Context(), source, clock)
		if err == nil {
			l.Close()
			t.Errorf("%s=off: opened", setting)
		} else if !strings.Contains(err.Error(), setting+"=off") || !strings.Contains(err.Error(), "turn it on") {
			t.Errorf("%s=off: %v", setting, err)
		}
	}
	refused(pg.URL+"&synchronous_commit=off", "synchronous_commit")
	db, err := sql.Open("pgx", pg.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), `CREATE ROLE hasty LOGIN SUPERUSER; ALTER ROLE hasty SET synchronous_commit = off`); err != nil {
		t.Fatal(err)
	}
	refused(strings.Replace(pg.URL, "postgres@", "hasty@", 1), "synchronous_commit")
	for _, setting := range []string{"fsync", "full_page_writes", "synchronous_commit"} {
		pg.Stop()
		pg.Start(setting + "=off")
		refused(pg.URL, setting)
	}
	// Nothing was made there.
	pg.Stop()
	pg.Start()
	var tables int
	if err := db.PingContext(t.Context()); err != nil {
		t.Logf("the pool's old connection: %v", err)
	}
	if err := db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public'`).Scan(&tables); err != nil || tables != 0 {
		t.Errorf("%d tables, %v", tables, err)
	}
	open(t, pg.URL).Close()
}
