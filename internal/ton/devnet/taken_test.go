package devnet

import "testing"

// A port that somebody has is refused: he would answer in the liteserver's place.
func TestServeRefusesATakenPort(t *testing.T) {
	c, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	first, err := c.Serve(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if s, err := c.Serve(t.Context(), first.Addr().String()); err == nil {
		t.Errorf("serves on %s a second time", s.Addr())
	}
}
