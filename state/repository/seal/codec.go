package seal

import "fmt"

// Algorithm names a compression as the HCL does.
type Algorithm string

// The algorithms. Each one's output is read by the tool of the same name, and told from the others by its first bytes.
const (
	Zstd Algorithm = "zstd"
	Gzip Algorithm = "gzip"
	LZ4  Algorithm = "lz4"
)

// Codec is a compression and how hard it tries. The zero value is zstd at level 1.
type Codec struct {
	Algorithm Algorithm `json:"algorithm"`
	Level     int       `json:"level"` // zstd 1 to 19, gzip 1 to 9, lz4 1 to 9; 0: 1
}

// Normal gives the codec with its defaults written out.
func (c Codec) Normal() Codec {
	if c.Algorithm == "" {
		c.Algorithm = Zstd
	}
	if c.Level == 0 {
		c.Level = 1
	}
	return c
}

// Check tells whether the codec is one that exists.
func (c Codec) Check() error {
	c = c.Normal()
	highest := 9
	switch c.Algorithm {
	case Zstd:
		highest = 19
	case Gzip, LZ4:
	default:
		return fmt.Errorf("%q is not a compression: there are zstd, gzip and lz4", c.Algorithm)
	}
	if c.Level < 1 || c.Level > highest {
		return fmt.Errorf("%d is not a level of %s: it has 1 to %d", c.Level, c.Algorithm, highest)
	}
	return nil
}
