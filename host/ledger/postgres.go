package ledger

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// A process that does not go on, because it was stopped or its machine has gone
// without a word, must not keep the rest of a fleet from the rows that it has
// locked. PostgreSQL ends a statement of it after statementTimeout, longer than
// any commit of the ledger waits; its transaction when the next statement is
// idleTimeout late, and a turn after turnTimeout.
const (
	statementTimeout = commitTimeout
	idleTimeout      = 5 * time.Second
	turnTimeout      = 30 * time.Second
)

// connectTimeout is for a URL without connect_timeout.
var connectTimeout = 10 * time.Second

// openPostgres connects to a server that keeps what it has committed.
func openPostgres(ctx context.Context, source string, migrations fs.FS) (*sql.DB, error) {
	config, err := pgx.ParseConfig(source)
	if err != nil {
		return nil, err
	}
	config.ConnectTimeout = cmp.Or(config.ConnectTimeout, connectTimeout)
	if err := migrate(ctx, config, migrations); err != nil {
		return nil, err
	}
	config.RuntimeParams["statement_timeout"] = milliseconds(statementTimeout)
	config.RuntimeParams["idle_in_transaction_session_timeout"] = milliseconds(idleTimeout)
	// Transactions wait for each other's locks and then see what the others did:
	// a stricter level would end one of them instead.
	config.RuntimeParams["default_transaction_isolation"] = "read committed"
	// Every connection may be to a server that was started anew.
	return stdlib.OpenDB(*config, stdlib.OptionAfterConnect(durable)), nil
}

// Unreachable tells a database that does not answer, or not yet, from one that
// refuses.
func Unreachable(err error) bool {
	var answer *pgconn.PgError
	if errors.As(err, &answer) {
		const operatorIntervention, tooManyConnections = "57P", "53300"
		return strings.HasPrefix(answer.Code, operatorIntervention) || answer.Code == tooManyConnections
	}
	return errors.As(err, new(*net.OpError)) || errors.As(err, new(*net.DNSError)) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

func migrate(ctx context.Context, config *pgx.ConnConfig, migrations fs.FS) error {
	db := stdlib.OpenDB(*config, stdlib.OptionAfterConnect(durable))
	defer db.Close()
	p, err := goose.NewProvider(goose.DialectPostgres, db, migrations, goose.WithSessionLocker(oneAtATime{}))
	if err == nil {
		_, err = p.Up(ctx)
	}
	return err
}

// durable refuses a server, or a role, that acknowledges before the disk does.
func durable(ctx context.Context, c *pgx.Conn) error {
	for _, setting := range []string{"fsync", "full_page_writes", "synchronous_commit"} {
		var v string
		if err := c.QueryRow(ctx, "SHOW "+setting).Scan(&v); err != nil {
			return err
		}
		if v == "off" {
			return fmt.Errorf("PostgreSQL runs with %s=off, which loses money with the next loss of power: turn it on", setting)
		}
	}
	return nil
}

// oneAtATime keeps the processes of a fleet from migrating at once. The lock
// goes with the connection, and so with a process that is killed.
type oneAtATime struct{}

const (
	migrationLock = 0x626f6d6279780001 + iota // "bombyx", 1
	walletLock
)

func (oneAtATime) SessionLock(ctx context.Context, c *sql.Conn) error {
	_, err := c.ExecContext(ctx, "SELECT pg_advisory_lock($1)", int64(migrationLock))
	return err
}

func (oneAtATime) SessionUnlock(ctx context.Context, c *sql.Conn) error {
	_, err := c.ExecContext(ctx, "SELECT pg_advisory_unlock($1)", int64(migrationLock))
	return err
}
