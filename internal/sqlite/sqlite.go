// Package sqlite opens the files that hold money: readable by their owner
// alone, on disk before a commit returns, and with a schema of this version.
package sqlite

import (
	"context"
	"database/sql"
	"io/fs"
	"net/url"
	"os"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // driver "sqlite"
)

// Open opens or creates a database file and brings its schema up to date with
// the migrations (goose, NNNNN_name.sql). A process that is killed meanwhile
// leaves what the next one goes on from.
func Open(ctx context.Context, path string, migrations fs.FS) (*sql.DB, error) {
	// Before SQLite does, which gives its journals the same permissions.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	// FULL: a commit that returned survives power loss, WAL or not.
	q := url.Values{"_pragma": {"journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(10000)", "foreign_keys(1)"}, "_txlock": {"immediate"}}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode())
	if err != nil {
		return nil, err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, migrations)
	if err == nil {
		_, err = p.Up(ctx)
	}
	if err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}
