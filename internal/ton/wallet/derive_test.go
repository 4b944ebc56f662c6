package wallet

import "testing"

func TestDerivedKeysAreStableAndApart(t *testing.T) {
	w, err := New(-3)
	if err != nil {
		t.Fatal(err)
	}
	again, err := FromWords(w.Words(), -3)
	if err != nil {
		t.Fatal(err)
	}
	derive := func(w *Wallet, salt, info string) [32]byte {
		k, err := w.DeriveKey([]byte(salt), info)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	k := derive(w, "salt", "purpose")
	if k != derive(again, "salt", "purpose") {
		t.Error("the words give another key")
	}
	if k == derive(w, "other", "purpose") || k == derive(w, "salt", "other") || k == [32]byte(w.key.Seed()) {
		t.Error("two purposes share a key")
	}
	other, err := New(-3)
	if err != nil {
		t.Fatal(err)
	}
	if k == derive(other, "salt", "purpose") {
		t.Error("two wallets share a key")
	}
}
