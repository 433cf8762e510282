package program

import "testing"

// TestHeapPercent: little that lives has a lot of room, and much of it has no less than the runtime gives.
func TestHeapPercent(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{
		{0, 1600}, {1 << 20, 1600}, {4 << 20, 1600}, {8 << 20, 800}, {16 << 20, 400}, {30 << 20, 200}, {64 << 20, 100}, {1 << 40, 100},
	} {
		if got := heapPercent(c.live); got != c.want {
			t.Errorf("%d MiB live: %d percent, expected %d", c.live>>20, got, c.want)
		}
	}
}
