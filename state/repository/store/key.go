package store

import (
	"fmt"
	"strings"
)

// The longest key and the longest part between two slashes that every kind of store can hold.
const (
	MaxKey  = 900
	MaxPart = 200
)

// CheckKey tells whether a key is one that every store can hold and no store can misread: parts of A-Z a-z 0-9 . _ - =
// joined by single slashes, none beginning with a dot. What a server or an operator named is thus never a way out of
// the repository.
func CheckKey(key string) error {
	if key == "" || len(key) > MaxKey {
		return fmt.Errorf("%.40q is not an object key: it has %d bytes, 1 to %d are allowed", key, len(key), MaxKey)
	}
	for part := range strings.SplitSeq(key, "/") {
		if err := checkPart(part); err != nil {
			return fmt.Errorf("%q is not an object key: %w", key, err)
		}
	}
	return nil
}

// CheckPrefix tells the same of a List prefix: empty, or a key, or a key and a slash at its end.
func CheckPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	return CheckKey(strings.TrimSuffix(prefix, "/"))
}

func checkPart(part string) error {
	switch {
	case part == "":
		return fmt.Errorf("a part is empty")
	case part[0] == '.':
		return fmt.Errorf("part %q begins with a dot", part)
	case len(part) > MaxPart:
		return fmt.Errorf("a part has %d bytes, %d are allowed", len(part), MaxPart)
	}
	for _, c := range []byte(part) {
		if !isKeyByte(c) {
			return fmt.Errorf("part %q holds the byte %q", part, c)
		}
	}
	return nil
}

func isKeyByte(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	}
	return c == '.' || c == '_' || c == '-' || c == '='
}
