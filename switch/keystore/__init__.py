"""Keys by handle: whoever asks for a MAC or a PIN check never holds the key it is made with."""
