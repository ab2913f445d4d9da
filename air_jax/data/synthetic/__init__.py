"""Synthetic training pairs: random label maps, and random contrasts and deformations of any label maps (SynthMorph)."""
