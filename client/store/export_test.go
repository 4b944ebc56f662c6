package store

import "testing"

// Exec changes the file behind the store's back.
func Exec(t *testing.T, s *Store, query string) {
	t.Helper()
	if _, err := s.db.Exec(query); err != nil {
		t.Fatal(err)
	}
}
