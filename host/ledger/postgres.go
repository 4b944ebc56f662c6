package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"

	_ "github.com/jackc/pgx/v5/stdlib" // driver "pgx"
	"github.com/pressly/goose/v3"
)

// openPostgres connects to a server that keeps what it has committed.
func openPostgres(ctx context.Context, source string, migrations fs.FS) (*sql.DB, error) {
	db, err := sql.Open("pgx", source)
	if err != nil {
		return nil, err
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, migrations, goose.WithSessionLocker(oneAtATime{}))
	if err == nil {
		err = durable(ctx, db)
	}
	if err == nil {
		_, err = p.Up(ctx)
	}
	if err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// durable refuses a server, or a role, that acknowledges before the disk does.
func durable(ctx context.Context, db *sql.DB) error {
	for _, setting := range []string{"fsync", "full_page_writes", "synchronous_commit"} {
		var v string
		if err := db.QueryRowContext(ctx, "SHOW "+setting).Scan(&v); err != nil {
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

const migrationLock = 0x626f6d6279780001 // "bombyx", 1

func (oneAtATime) SessionLock(ctx context.Context, c *sql.Conn) error {
	_, err := c.ExecContext(ctx, "SELECT pg_advisory_lock($1)", int64(migrationLock))
	return err
}

func (oneAtATime) SessionUnlock(ctx context.Context, c *sql.Conn) error {
	_, err := c.ExecContext(ctx, "SELECT pg_advisory_unlock($1)", int64(migrationLock))
	return err
}
