// Package pgtest gives tests PostgreSQL: servers of their own, or a schema in the
// one that BOMBYX_TEST_POSTGRES names.
package pgtest

import (
	"crypto/rand"
	"database/sql"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx
)

// Scratch makes an empty schema in the scratch database that BOMBYX_TEST_POSTGRES
// names, a postgres:// URL with a query, and returns the URL that uses it. The
// test is skipped where none is named.
func Scratch(t testing.TB) string {
	t.Helper()
	url := os.Getenv("BOMBYX_TEST_POSTGRES")
	if url == "" {
		t.Skip("BOMBYX_TEST_POSTGRES is not set to the postgres:// URL of a scratch database")
	}
	schema := "test_" + strings.ToLower(rand.Text())
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("CREATE SCHEMA " + schema); err != nil {
		t.Fatal(err)
	}
	return url + "&search_path=" + schema
}

// A Server is a PostgreSQL server of a test's own, which can be stopped. It
// listens on a Unix socket only.
type Server struct {
	URL string // of its database, as its superuser

	t        testing.TB
	bin, dir string
	as       *syscall.SysProcAttr
}

const port = "54330" // names the socket, in a folder of the server's own

// Start makes a server and starts it with these settings (name=value). It ends
// with the test, which is skipped where no PostgreSQL is installed.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(found) == 0 {
		t.Skip("PostgreSQL's server is not installed")
	}
	slices.Sort(found)
	s := &Server{t: t, bin: found[len(found)-1]}
	var err error
	// A socket's path is short, and PostgreSQL does not run as root.
	if s.dir, err = os.MkdirTemp("", "pgtest"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(s.dir) })
	if os.Getuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Skip("PostgreSQL does not run as root, and there is no user postgres")
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		s.as = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		if err := os.Chown(s.dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	s.URL = "postgres://postgres@/postgres?host=" + s.dir + "&port=" + port
	s.do("initdb", "-D", s.dir+"/data", "-A", "trust", "-U", "postgres")
	s.Start(settings...)
	t.Cleanup(s.Stop)
	return s
}

func (s *Server) do(name string, args ...string) {
	s.t.Helper()
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = s.as
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// Start starts a server that was stopped.
func (s *Server) Start(settings ...string) {
	s.t.Helper()
	options := "-k " + s.dir + " -p " + port + " -c listen_addresses= -c recovery_init_sync_method=syncfs"
	if len(settings) > 0 {
		options += " -c " + strings.Join(settings, " -c ")
	}
	s.do("pg_ctl", "-D", s.dir+"/data", "-w", "-t", "300", "-l", s.dir+"/log", "-o", options, "start")
}

// Stop aborts the server: it recovers from its log when it starts.
func (s *Server) Stop() {
	s.t.Helper()
	s.do("pg_ctl", "-D", s.dir+"/data", "-m", "immediate", "stop")
}
