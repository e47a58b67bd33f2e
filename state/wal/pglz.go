package wal

// pglz undoes PostgreSQL's own compression, of which want bytes must come out. From pg_lzcompress.c: a control byte says
// of each of the eight items that follow it, lowest bit first, whether it is a byte or a reference back of two or three.
func pglz(in []byte, want int) ([]byte, bool) {
	out := make([]byte, 0, want)
	for len(in) > 0 && len(out) < want {
		control := in[0]
		in = in[1:]
		for bit := 0; bit < 8 && len(in) > 0 && len(out) < want; bit++ {
			if control>>bit&1 == 0 {
				out, in = append(out, in[0]), in[1:]
				continue
			}
			if len(in) < 2 {
				return nil, false
			}
			length, back := int(in[0]&0x0F)+3, int(in[0]&0xF0)<<4|int(in[1])
			in = in[2:]
			if length == 18 {
				if len(in) == 0 {
					return nil, false
				}
				length, in = length+int(in[0]), in[1:]
			}
			if back == 0 || back > len(out) {
				return nil, false
			}
			for range min(length, want-len(out)) {
				out = append(out, out[len(out)-back])
			}
		}
	}
	return out, len(out) == want && len(in) == 0
}
