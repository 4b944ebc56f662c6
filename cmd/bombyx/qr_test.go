package main

import (
	"strings"
	"testing"
)

func TestQRIsDrawnWithItsMargin(t *testing.T) {
	var b strings.Builder
	if err := showQR(&b, "ton://transfer/UQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"); err != nil {
		t.Fatal(err)
	}
	rows := strings.Split(strings.TrimSpace(b.String()), "\n")
	// Version 5 for 62 bytes at level M: 37 modules and 4 of margin on each side.
	if len(rows) != 23 || !strings.HasPrefix(rows[2], "\x1b[30;107m    \u2588\u2580\u2580\u2580\u2580\u2580\u2588 ") || !strings.HasSuffix(rows[2], "\u2588\u2580\u2580\u2580\u2580\u2580\u2588    \x1b[0m") {
		t.Fatalf("%d rows\n%s", len(rows), b.String())
	}
}
