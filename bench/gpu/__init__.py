"""The check of everything that needs a GPU: its kit, its steps, its findings. Run by bench/gpu_check.py."""
